"""Numbers and directions in an utterance, in Chinese and English.

What a numeric argument may become is decided here and nowhere else: a value that is not read out of the
utterance is never offered to the model. All functions take text in the form of ``wording.normalise``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from kylin_gguf.actuator.quantities.directions import Direction, Extreme, directions, extremes
from kylin_gguf.actuator.quantities.numbers import Number, numbers

__all__ = ["Direction", "Extreme", "Number", "Quantities", "read"]

_N = TypeVar("_N", int, float)
_MILLISECONDS = frozenset(("ms", "millisecond", "milliseconds", "毫秒"))
_SECONDS = frozenset(("", "s", "second", "seconds", "秒"))


def _in_unit(number: Number, unit: str) -> float | None:
    """What ``number`` is for an argument in ``unit``; None if it measures something else."""
    if number.unit != "s":
        return number.value
    if unit in _MILLISECONDS:
        return 1000 * number.value
    return number.value if unit in _SECONDS else None


@dataclass(frozen=True)
class Quantities:
    """Everything numeric in one utterance."""

    numbers: tuple[Number, ...]
    extremes: frozenset[Extreme]
    directions: frozenset[Direction]

    def values(self, minimum: int, maximum: int, unit: str = "") -> tuple[int, ...]:
        """Return the whole numbers in ``[minimum, maximum]`` that an argument may take, as mentioned.

        ``unit`` is the argument's: "1.5 seconds" are 1500 of an argument in ms. Of a whole number, "twice"
        is 200 percent.
        """
        said = [(100 * n.value if n.unit == "x" else _in_unit(n, unit)) for n in self.numbers if not n.delta]
        whole = [int(value) for value in said if value is not None and value == int(value)]
        return self._within(whole, minimum, maximum)

    def decimals(self, minimum: float, maximum: float, unit: str = "") -> tuple[float, ...]:
        """Return the numbers in ``[minimum, maximum]`` that an argument may take; see ``values``."""
        said = [_in_unit(number, unit) for number in self.numbers if not number.delta]
        return self._within([float(value) for value in said if value is not None], minimum, maximum)

    def _within(self, numbers: Sequence[_N], minimum: _N, maximum: _N) -> tuple[_N, ...]:
        found: list[_N] = [number for number in numbers if minimum <= number <= maximum]
        limits: dict[Extreme, _N] = {"min": minimum, "max": maximum}
        found += [limits[extreme] for extreme in sorted(self.extremes)]
        return tuple(dict.fromkeys(found))


def read(text: str) -> Quantities:
    """Read every number, extreme ("max") and direction ("louder") out of normalised ``text``."""
    found = numbers(text)
    return Quantities(found, extremes(text), directions(text, found))
