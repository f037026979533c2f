"""How much of a prompt fits into a step without others' streams losing their pace."""

from __future__ import annotations

STRETCH = 2.0
"""How much longer a step that also computes a prompt may take than one that only continues streams."""

_SMALLEST, _FIRST = 8, 32
_WEIGHT = 0.25  # of the newest figure in the running means
_TELLING = 4  # fewer prompt tokens in a step say little about what one costs


class Pace:
    """Learns what a step costs from the steps themselves: models, machines and their load differ too much."""

    def __init__(self) -> None:
        self._decode_s = 0.0
        self._token_s = 0.0

    def observe(self, streams: int, prompt_tokens: int, seconds: float) -> None:
        """Learn from a step that continued ``streams`` and computed ``prompt_tokens``."""
        if not prompt_tokens:
            self._decode_s = _mean(self._decode_s, seconds)
        elif prompt_tokens >= _TELLING and (self._decode_s or not streams):
            rest = seconds - (self._decode_s if streams else 0.0)
            self._token_s = _mean(self._token_s, max(rest, 0.0) / prompt_tokens)

    def chunk(self, room: int) -> int:
        """Return how many prompt tokens to take into a step beside streams, at most ``room``."""
        if not self._decode_s or not self._token_s:
            return min(_FIRST, room)
        fitting = int((STRETCH - 1.0) * self._decode_s / self._token_s)
        return min(max(fitting, _SMALLEST), room)


def _mean(so_far: float, newest: float) -> float:
    return so_far + _WEIGHT * (newest - so_far) if so_far else newest
