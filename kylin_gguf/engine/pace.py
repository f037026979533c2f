"""How much of a prompt fits into a step without others' streams losing their pace."""

from __future__ import annotations

from collections import defaultdict, deque
from itertools import pairwise
from statistics import median

STRETCH = 2.6
"""How much longer a step that also computes a prompt may take than one took before the prompt came. Some room
is left to three times, which is where readers notice: no step takes quite what the last one took."""

TICK_S = 0.010
"""What a step loses when other processes want its processors: each of two for a tick (Linux at 250 Hz), and
half of one for who else has waited. Short steps leave room for that, too, but not less than ``LEAST_STRETCH``
allows."""

LEAST_STRETCH = 1.65

LATE = 0.3
"""A step that begins so late after the last, in plain steps, goes without a prompt: its streams have waited
already, perhaps while that very prompt was made into tokens."""

SIZES = (1, 3, 7, 11, 15, 23, 31, 47, 63, 95, 127, 191, 255, 383, 511)
"""Prompt tokens of a step. With one stream's token the batches are multiples of four rows, which is what
repacked kernels compute at once: three rows can take them longer than four."""

PLAIN_EVERY = 32
"""Steps after which one goes without a prompt, to see whether the machine has become slower or faster."""

_FIRST = 3
_KEPT = 5  # newest times of each kind of step; their median is not moved by one that was disturbed
_CHANGED = 1.25  # how much slower or faster a plain step has to become for all to be learnt anew
_JUMP = 1.15  # by how much from one plain step to the next: that is the machine, not the growing context
_AS_MUCH = 1.1
_STALE = 500  # steps after which a size that took too long is tried again


class Pace:
    """Learns what a step costs from the steps themselves: models, machines and their load differ too much."""

    def __init__(self) -> None:
        self._plain = _newest_by_kind()
        """By number of streams: seconds of steps without prompts."""
        self._streams, self._base = 0, 0.0
        """What the ratios were measured beside: the number of streams, and seconds of a plain step."""
        self._usual = 0.0
        """Seconds of a plain step before the prompt came, 0 where none is there. A prompt makes the context
        longer, and plain steps slower with it; readers compare with what they had."""
        self._beside_prompt = False
        """Whether a prompt waited for a part of the last step."""
        self._ratios = _newest_by_kind()
        """By prompt tokens: how many times longer than a plain step it took."""
        self._seen: dict[int, int] = {}
        self._steps = self._plain_at = 0
        self._skipped = False

    def observe(self, streams: int, prompt_tokens: int, seconds: float) -> None:
        """Learn from a step that continued ``streams`` and computed ``prompt_tokens``."""
        self._steps += 1
        beside_prompt, self._beside_prompt = self._beside_prompt, False
        self._skipped = self._skipped and beside_prompt
        if not streams:
            return
        if not prompt_tokens:
            self._observe_plain(streams, seconds, beside_prompt=beside_prompt)
        elif streams == self._streams and prompt_tokens in SIZES:
            self._ratios[prompt_tokens].append(seconds / self._base)
            self._seen[prompt_tokens] = self._steps

    def _observe_plain(self, streams: int, seconds: float, *, beside_prompt: bool) -> None:
        self._plain_at = self._steps
        times = self._plain[streams]
        if not beside_prompt:
            times.append(seconds)
            self._usual = 0.0
            return
        was = median(times) if times else 0.0
        times.append(seconds)
        if was:
            jump = median(times) / was
            self._usual *= 1.0 if 1 / _JUMP < jump < _JUMP else jump

    def chunk(self, streams: int, room: int, late_s: float = 0.0) -> int:
        """Return how many prompt tokens to take into a step beside ``streams``, at most ``room``.

        ``late_s`` is what has passed since the last step.
        """
        self._beside_prompt = True
        if streams not in self._plain or self._steps - self._plain_at >= PLAIN_EVERY:
            return 0
        plain = median(self._plain[streams])
        # Not twice in a row: where every step begins late, prompts must go on all the same.
        self._skipped = late_s > LATE * plain and not self._skipped
        if self._skipped:
            return 0
        if streams != self._streams or not self._usual:
            self._usual = plain
        if streams != self._streams or not 1 / _CHANGED < plain / self._base < _CHANGED:
            self._streams, self._base, self._ratios = streams, plain, _newest_by_kind()
        if not self._ratios:
            return min(_FIRST, room)
        stale = [size for size in self._ratios if self._steps - self._seen[size] > _STALE]
        if stale:
            del self._ratios[stale[0]]
            return min(stale[0], room)
        largest = self._largest_known()
        fitting = [size for size in SIZES if size <= largest and self._ratio(size) <= self._limit]
        return min(max(fitting, default=SIZES[0]), room)

    @property
    def _limit(self) -> float:
        """Up to which ratio a size may go: streams gain nothing from one that costs as much as a single
        token."""
        stretch = min(max(3.0 - TICK_S / self._usual, LEAST_STRETCH), STRETCH)
        single = median(self._ratios[1]) if 1 in self._ratios else 0.0
        return max(stretch * self._usual / self._base, _AS_MUCH * single)

    def _largest_known(self) -> int:
        """Return the largest size that was tried, or the one above if that promises to fit."""
        tried = max(self._ratios)
        above = dict(pairwise(SIZES)).get(tried, tried)
        return above if self._ratio(above) <= self._limit else tried

    def _ratio(self, size: int) -> float:
        """Return the measured ratio of ``size``; what was not tried costs as the nearest that was, in
        proportion."""
        if size in self._ratios:
            return median(self._ratios[size])
        nearest = min(self._ratios, key=lambda tried: abs(tried - size))
        return 1.0 + (median(self._ratios[nearest]) - 1.0) * size / nearest


def _newest_by_kind() -> defaultdict[int, deque[float]]:
    return defaultdict(lambda: deque(maxlen=_KEPT))
