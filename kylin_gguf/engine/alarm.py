"""Notices at once that other programs take the cores."""

from __future__ import annotations

from kylin_gguf.engine.company import Company

EVIDENCE = 4.0
"""Threads of others that want a core behind steps in a row, each step's times how much longer it took."""

LASTING_S, LASTING_STEPS = 0.05, 2
"""How long such steps take together, and how many they are. Who reads an answer, or draws it, is done sooner;
and a step can be slow because our own threads have met on a core."""

SLOWED = 1.5
"""How much longer steps take by then. Beside programs that only get what is left (nice(1)) they do not."""

_DRIFT = 1.01
"""What a step may have become longer since the one before, as the context grows."""


class Alarm:
    """Watches steps while nobody else is thought to be there."""

    def __init__(self, company: Company) -> None:
        self._company = company
        self._usual: dict[int, float] = {}
        """Seconds of a step when nobody wanted a core, by its tokens. Without them nothing is said."""
        self._evidence = self._lasted = 0.0
        self._steps = self._least = 0
        """How many of these steps there were; threads of others that wanted a core behind each of them."""

    def heard(self, own: int, tokens: int, seconds: float) -> int:
        """Return how many cores others want without doubt, 0 mostly. To be asked right behind a step of so
        many ``tokens`` and ``seconds``, when its ``own`` threads still spin."""
        wanting = self._company.running(own)
        usual = self._usual.get(tokens, seconds)
        if not wanting:
            self._usual[tokens] = min(seconds, _DRIFT * usual)
        if not wanting or seconds < SLOWED * usual:
            self._begin_anew()
            return 0
        self._least = min(self._least or wanting, wanting)
        self._evidence += wanting * seconds / usual
        self._lasted += seconds
        self._steps += 1
        if self._evidence < EVIDENCE or self._lasted < LASTING_S or self._steps < LASTING_STEPS:
            return 0
        certain = self._least
        self._begin_anew()
        return certain

    def _begin_anew(self) -> None:
        self._evidence = self._lasted = 0.0
        self._steps = self._least = 0
