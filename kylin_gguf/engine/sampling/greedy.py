"""The likeliest token, each time."""

from __future__ import annotations

from kylin_gguf.engine.context import Logits
from kylin_gguf.engine.sampling.candidates import Candidates, shortlists
from kylin_gguf.engine.sampling.grammar import Grammar
from kylin_gguf.errors import InvalidGrammar


class Greedy:
    """Takes the likeliest token that a grammar allows; among equals the first."""

    def __init__(self) -> None:
        self._candidates = Candidates()

    def close(self) -> None:
        """Nothing: no sampler of llama.cpp is needed."""

    def next(self, logits: Logits, grammar: Grammar | None) -> int:
        """Return the next token.

        Without a grammar that is one look over ``logits``. With one, the likeliest token is asked about
        alone; if it is refused, the next likeliest are, and everything beyond them is less likely than any
        that is allowed.

        Raises:
            InvalidGrammar: the grammar allows no token.
        """
        token = int(logits.argmax())
        if grammar is None or grammar.allows(token):
            return token
        for ids in shortlists(logits):
            self._candidates.fill(ids, logits[ids])
            grammar.restrict(self._candidates)
            if self._candidates.size:
                return int(self._candidates.ids[self._candidates.logits.argmax()])
        raise InvalidGrammar("no token of this model continues it")
