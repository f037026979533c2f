"""One request's guesses: where they come from, and how many of them are worth trying."""

from __future__ import annotations

from collections.abc import Sequence

from kylin_gguf.engine.speculation.lookup import PromptLookup
from kylin_gguf.engine.speculation.payoff import LONGEST, Acceptance, Costs, best_length


class Speculator:
    """Proposes as many guesses as pay, by what this model's decodes cost and how this request's guesses fare.

    A guess that is not tried is judged, too, by the token that is drawn: so a request that does not quote
    pays for no trial, and one that begins to is noticed.
    """

    def __init__(self, costs: Costs) -> None:
        self._lookup, self._costs = PromptLookup(), costs
        self._acceptance = Acceptance()
        self._expected: list[int] = []
        self._trying = False
        self.guessed = self.accepted = 0
        """Guesses that were decoded, and how many of them were right."""

    def propose(self, tokens: Sequence[int], limit: int) -> list[int]:
        """Return what to check behind ``tokens``: at most ``limit`` guesses, none if that does not pay."""
        guesses = self._lookup.propose(tokens, min(limit, LONGEST))
        tried = guesses[: best_length(self._costs, self._acceptance.probability, len(guesses))]
        self._trying = bool(tried)
        self._expected = tried or guesses[:1]
        self.guessed += len(tried)
        return tried

    def drawn(self, token: int) -> None:
        """Judge what was expected by the token that came."""
        if not self._expected:
            return
        right = self._expected[0] == token
        self._acceptance.learn(right=right)
        self._expected = self._expected[1:] if right else []
        self.accepted += right and self._trying
