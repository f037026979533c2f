"""Measures one request: when it came, began, drew its tokens, and what it took."""

from __future__ import annotations

import time
from collections.abc import Callable

from kylin_gguf import energy
from kylin_gguf.energy import EnergyMeter
from kylin_gguf.records import Usage


class Stopwatch:
    """Starts when it is made, which is when the request arrives."""

    def __init__(
        self, meter: EnergyMeter | None = None, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        """``meter`` is by default the machine's."""
        self._meter, self._clock = meter or energy.packages(), clock
        self._arrived = clock()
        self._started: float | None = None
        self._first: float | None = None
        self._last = 0.0
        self._longest_gap = 0.0
        self._tokens = 0
        self._joules: float | None = None

    def started(self) -> None:
        """The request got a slot: its prefill begins."""
        self._started = self._clock()
        self._joules = self._meter.joules()

    def token(self) -> float:
        """Note that a token was drawn; return when."""
        now = self._clock()
        if self._first is None:
            self._first = now
        else:
            self._longest_gap = max(self._longest_gap, now - self._last)
        self._last = now
        self._tokens += 1
        return now

    def usage(
        self, prompt_tokens: int, cached_tokens: int, *, guessed_tokens: int = 0, accepted_tokens: int = 0
    ) -> Usage:
        """Return what the request has cost until now."""
        now = self._clock()
        started = now if self._started is None else self._started
        first = now if self._first is None else self._first
        prefill_s, decode_s = first - started, now - first
        computed = prompt_tokens - cached_tokens
        joules = self._meter.joules()
        return Usage(
            prompt_tokens=prompt_tokens,
            cached_tokens=cached_tokens,
            completion_tokens=self._tokens,
            first_token_s=0.0 if self._first is None else first - self._arrived,
            total_s=now - self._arrived,
            prefill_tokens_per_s=computed / prefill_s if self._tokens and prefill_s > 0 else 0.0,
            # The first token is prefill's; the rest are decode's.
            decode_tokens_per_s=(self._tokens - 1) / decode_s if self._tokens > 1 and decode_s > 0 else 0.0,
            queue_s=started - self._arrived,
            prefill_s=prefill_s,
            decode_s=decode_s,
            longest_gap_s=self._longest_gap,
            guessed_tokens=guessed_tokens,
            accepted_tokens=accepted_tokens,
            energy_j=None if joules is None or self._joules is None else joules - self._joules,
        )
