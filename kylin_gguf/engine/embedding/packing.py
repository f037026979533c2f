"""How many texts are computed together."""

from __future__ import annotations

import itertools
from collections.abc import Sequence


def fitting(lengths: Sequence[int], *, texts: int, tokens: int) -> int:
    """Return how many of the next texts, at least one, go into a batch of so many ``texts`` and ``tokens``.

    ``lengths`` are how many tokens of each are to be computed.
    """
    totals = itertools.accumulate(lengths[:texts])
    return max(sum(1 for total in totals if total <= tokens), 1)
