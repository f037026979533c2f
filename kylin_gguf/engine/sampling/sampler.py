"""Draws and accepts the tokens of one request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from kylin_gguf.engine.context import Logits
from kylin_gguf.engine.sampling.draw import Draw
from kylin_gguf.engine.sampling.grammar import Grammar
from kylin_gguf.engine.sampling.greedy import Greedy
from kylin_gguf.engine.vocabulary import Vocabulary
from kylin_gguf.records import SamplingOptions


class HasLogits(Protocol):
    """What a sampler needs of a context."""

    def logits(self, index: int) -> Logits:
        """Return the logits of the batch's output ``index``, shape (vocab_size,)."""


class Sampler:
    """The sampling state of one request. ``close`` frees it."""

    def __init__(self, vocabulary: Vocabulary, options: SamplingOptions, prompt: Sequence[int]) -> None:
        """Build the samplers.

        The penalties see the prompt's last tokens as they do in llama.cpp's server
        (server_slot::init_sampler), so that an answer does not repeat what was just said; a grammar begins
        with the answer.

        Raises:
            InvalidGrammar: the grammar or the JSON schema of ``options`` is refused.
        """
        self._grammar = Grammar.of(vocabulary, options)
        # Greedy is exact: no penalty moves the likeliest token.
        self._choice = Greedy() if options.temperature == 0.0 else Draw(vocabulary, options, prompt)

    def close(self) -> None:
        """Free the samplers (llama_sampler_free)."""
        if self._grammar:
            self._grammar.close()
        self._choice.close()

    def sample(self, context: HasLogits, index: int) -> int:
        """Draw and accept the next token from the batch's output ``index``.

        Raises:
            InvalidGrammar: no token of this vocabulary continues what the grammar has accepted.
        """
        token = self._choice.next(context.logits(index), self._grammar)
        if self._grammar:
            self._grammar.accept(token)
        return token
