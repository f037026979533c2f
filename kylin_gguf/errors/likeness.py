"""Names that were probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_ALIKE = 0.6
"""Likeness, by difflib's measure, from which a name is worth suggesting."""


def _ratio(one: str, other: str) -> float:
    """Return difflib's measure, or 0 where the lengths alone say that it is too low. It takes time by their
    product, and what a client calls a name may have megabytes."""
    matcher = difflib.SequenceMatcher(None, one, other)
    return matcher.ratio() if matcher.real_quick_ratio() >= _ALIKE else 0.0


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
        return max(_ratio(a, b) for a, b in pairs)

    ranked = sorted(
        ((likeness(candidate), candidate) for candidate in dict.fromkeys(known)), key=lambda pair: -pair[0]
    )
    return tuple(candidate for ratio, candidate in ranked[:limit] if ratio >= _ALIKE)
