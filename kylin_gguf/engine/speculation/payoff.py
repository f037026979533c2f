"""Whether a guess is worth its decode, and how long it should be.

A decode that checks n guesses gives as many tokens as are right in a row, and one more. With a probability p
that a guess is right, that is 1 + p + … + pⁿ (Leviathan et al. 2023, "Fast inference from transformers via
speculative decoding", equation 1).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

LONGEST = 7
"""Guesses of one decode: with the token before them a batch of eight, which repacked kernels compute as two
blocks of four rows."""

_PRIOR = 0.3
"""Probability of a guess before any was judged; it weighs as much as one that was."""

_MEMORY = 0.9
"""What an earlier guess still counts for at the next one: a text that begins to quote is soon believed, and
one that ends to quote soon not."""


class Costs:
    """How long a decode of several tokens takes, in decodes of one."""

    def __init__(self, measured: Mapping[int, float]) -> None:
        """``measured`` has, by number of tokens, times in any unit; 1 is among the numbers."""
        self._sizes = sorted(measured)
        self._costs = [measured[size] / measured[1] for size in self._sizes]

    def of(self, tokens: int) -> float:
        """Return the cost of ``tokens`` together, at most the largest number that was measured."""
        return float(np.interp(tokens, self._sizes, self._costs))

    def to_json(self) -> dict[str, float]:
        """Return a JSON object that ``from_json`` reads."""
        return {str(size): round(cost, 4) for size, cost in zip(self._sizes, self._costs, strict=True)}

    @classmethod
    def from_json(cls, value: Mapping[str, float]) -> Costs:
        """Rebuild from ``to_json``.

        Raises:
            ValueError, KeyError: it is none.
        """
        return cls({int(size): float(cost) for size, cost in value.items()})


class Acceptance:
    """How probably the next guess is right, as one request goes on."""

    def __init__(self) -> None:
        self._right = self._judged = 0.0

    @property
    def probability(self) -> float:
        """Of the next guess."""
        return (self._right + _PRIOR) / (self._judged + 1.0)

    def learn(self, *, right: bool) -> None:
        """Note how a guess fared. Of those behind a wrong one nothing is known."""
        self._right = self._right * _MEMORY + right
        self._judged = self._judged * _MEMORY + 1.0


def gain(costs: Costs, probability: float, guesses: int) -> float:
    """Return how many times faster tokens come with ``guesses`` than without."""
    return float(sum(probability**n for n in range(guesses + 1))) / costs.of(guesses + 1)


def best_length(costs: Costs, probability: float, limit: int) -> int:
    """Return the number of guesses, at most ``limit``, that makes tokens come fastest; 0 if none does."""
    return max(
        range(min(limit, LONGEST) + 1), key=lambda guesses: (gain(costs, probability, guesses), -guesses)
    )
