"""How long to leave a model alone whose worker dies while it loads."""

from __future__ import annotations

import math
from dataclasses import dataclass

from kylin_gguf.errors import EngineError, RestartDelayed

_FIRST_S = 1.0
_LONGEST_S = 300.0


@dataclass
class Backoff:
    """The failed starts of one model in a row. Times are ``time.monotonic``'s."""

    failures: int = 0
    _wait_s: float = 0.0
    _until: float = 0.0
    _reason: str = ""

    def check(self, model: str, now: float) -> None:
        """Allow a start.

        Raises:
            RestartDelayed: not yet.
        """
        if now < self._until:
            raise RestartDelayed(model, self.failures, math.ceil(self._until - now), self._reason)

    def failed(self, error: EngineError, now: float) -> None:
        """Note that a worker died while loading: each time in a row doubles the wait."""
        self.failures += 1
        self._reason = error.statement()
        self._wait_s = min(2 * self._wait_s or _FIRST_S, _LONGEST_S)
        self._until = now + self._wait_s
