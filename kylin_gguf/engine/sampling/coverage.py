"""When a few candidates are as good as the whole vocabulary.

llama.cpp's truncating samplers keep the first n of the candidates in order of their logits, and the draw
looks at nothing else. So a chain over some candidates draws exactly as over all, if for both n is the same
and the first n are the same tokens. ``Truncation.covered`` proves that from what is known of the rest: none
has a higher logit than a bound.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kylin_gguf.engine.context import Logits
from kylin_gguf.records import SamplingOptions

_SLACK = 1e-5
"""Relative error allowed for llama.cpp's sums of probabilities, which are in 32 bits."""


@dataclass(frozen=True)
class Truncation:
    """The samplers that keep the first n candidates, in llama.cpp's order: top-k, top-p, min-p."""

    top_k: int
    top_p: float
    min_p: float
    typical: bool
    """Whether typical-p is on, which keeps other candidates than the first: then top-k alone must decide."""

    @classmethod
    def of(cls, options: SamplingOptions, vocab_size: int) -> Truncation:
        """Return what ``options`` ask for."""
        top_k = min(options.top_k or vocab_size, vocab_size)
        return cls(top_k, options.top_p, options.min_p, options.typical_p < 1.0)

    def covered(self, logits: Logits, bound: float, outside: int) -> bool:
        """Return whether ``outside`` further tokens, none with a logit above ``bound``, would change nothing.

        Args:
            logits: The candidates' logits, penalties and grammar applied, in any order, shape (n,).
            bound: Highest logit that a token outside may have.
            outside: How many tokens are outside.
        """
        if not outside:
            return True
        certain = int(np.count_nonzero(logits > bound))
        """So many of the candidates come before everything outside."""
        if certain >= self.top_k:
            return True
        if self.typical or not certain:
            return False
        ordered = np.sort(logits)[::-1][: self.top_k].astype(np.float64)
        weights = np.exp(ordered - ordered[0])
        heaviest_outside = float(np.exp(bound - ordered[0]))
        if self.min_p and heaviest_outside < self.min_p * (1.0 - _SLACK):
            by_min_p = int(np.count_nonzero(weights >= self.min_p))
        else:  # min-p keeps all that are certain, and who knows what else
            by_min_p = len(weights) + 1
        if self.top_p >= 1.0:
            return by_min_p <= certain
        # A token outside displaces none of the certain ones, and adds at most what one at the bound weighs.
        sums = np.cumsum(weights)
        most = sums[-1] + min(self.top_k - certain, outside) * heaviest_outside
        totals = (sums[-1] * (1.0 - _SLACK), most * (1.0 + _SLACK))
        fewest, utmost = (int(np.searchsorted(sums, self.top_p * total)) + 1 for total in totals)
        return min(fewest, by_min_p) == min(utmost, by_min_p) <= certain
