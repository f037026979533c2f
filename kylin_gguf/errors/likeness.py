"""Names that were probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_ALIKE = 0.6
"""Likeness, by difflib's measure, from which a name is worth suggesting."""


def near(name: str, known: Iterable[str], limit: int = 3) -> tuple[str, ...]:
    """Return up to ``limit`` of ``known`` that ``name`` may have been meant for, best first.

    Names are compared whole and, since people type the beginning of long ones, by as much of their beginning.
    """
    folded = name.casefold()
    if not folded:
        return ()

    def likeness(candidate: str) -> float:
        whole = candidate.casefold()
        if folded in whole:
            return 1.0
        pairs = ((folded, whole), (folded, whole[: len(folded)]))
        return max(difflib.SequenceMatcher(None, a, b).ratio() for a, b in pairs)

    ranked = sorted(
        ((likeness(candidate), candidate) for candidate in dict.fromkeys(known)), key=lambda pair: -pair[0]
    )
    return tuple(candidate for ratio, candidate in ranked[:limit] if ratio >= _ALIKE)
