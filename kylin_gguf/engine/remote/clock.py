"""What a request to a server took, as far as it can be seen from here."""

from __future__ import annotations

import time
from collections.abc import Callable

from kylin_gguf.engine.remote.chunks import Counts
from kylin_gguf.records import Usage


class Clock:
    """Starts when it is made. The network is in all its times."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._arrived = clock()
        self._first: float | None = None
        self._last = self._gap = 0.0

    def heard(self) -> None:
        """Note a piece of the answer."""
        now = self._clock()
        if self._first is None:
            self._first = now
        else:
            self._gap = max(self._gap, now - self._last)
        self._last = now

    def usage(self, counts: Counts) -> Usage:
        """Return what the request has cost until now; how long it queued there is not known, and 0."""
        now = self._clock()
        first = now if self._first is None else self._first
        prefill_s, decode_s = first - self._arrived, now - first
        computed, later = counts.prompt - counts.cached, counts.completion - 1
        return Usage(
            prompt_tokens=counts.prompt,
            cached_tokens=counts.cached,
            completion_tokens=counts.completion,
            first_token_s=0.0 if self._first is None else prefill_s,
            total_s=now - self._arrived,
            prefill_tokens_per_s=computed / prefill_s if computed > 0 and prefill_s > 0 else 0.0,
            decode_tokens_per_s=later / decode_s if later > 0 and decode_s > 0 else 0.0,
            queue_s=0.0,
            prefill_s=prefill_s,
            decode_s=decode_s,
            longest_gap_s=self._gap,
        )
