"""A grammar that an answer must follow, as a sampler of llama.cpp."""

from __future__ import annotations

import llama_cpp

from kylin_gguf.engine.sampling.candidates import Candidates
from kylin_gguf.engine.sampling.gbnf import check
from kylin_gguf.engine.sampling.json_schema import to_gbnf
from kylin_gguf.engine.vocabulary import Vocabulary
from kylin_gguf.errors import InvalidGrammar
from kylin_gguf.records import SamplingOptions


class Grammar:
    """What may come next. ``close`` frees it."""

    def __init__(self, vocabulary: Vocabulary, source: str) -> None:
        """Parse ``source``, in GBNF (llama_sampler_init_grammar).

        Raises:
            InvalidGrammar: it is wrong, or would make llama.cpp end the process.
        """
        check(source)
        self._sampler = llama_cpp.llama_sampler_init_grammar(vocabulary.handle, source.encode(), b"root")
        if not self._sampler:
            raise InvalidGrammar("llama.cpp could not parse it, or it has no rule 'root'")
        self._one = Candidates()

    @classmethod
    def of(cls, vocabulary: Vocabulary, options: SamplingOptions) -> Grammar | None:
        """Return the grammar that ``options`` ask for, if they do.

        Raises:
            InvalidGrammar: the grammar or the JSON schema is refused.
        """
        source = to_gbnf(options.json_schema) if options.json_schema else options.grammar
        return cls(vocabulary, source) if source else None

    def close(self) -> None:
        """Free the parsed rules (llama_sampler_free)."""
        llama_cpp.llama_sampler_free(self._sampler)

    def allows(self, token: int) -> bool:
        """Return whether ``token`` may come next."""
        self._one.fill_one(token)
        self.restrict(self._one)
        return self._one.size == 1

    def restrict(self, candidates: Candidates) -> None:
        """Drop the candidates that may not come next; costs a tenth of a microsecond for each."""
        candidates.apply(self._sampler)
        candidates.drop_impossible()

    def accept(self, token: int) -> None:
        """Go on behind ``token``, which must be allowed: another would end the process, since
        llama_grammar_accept_token throws through C."""
        llama_cpp.llama_sampler_accept(self._sampler, token)
