"""A random draw of the next token.

The chain is llama.cpp's usual one (common_sampler_init): penalties and DRY, then top-k, typical-p, top-p,
min-p and XTC, then temperature and the draw. It runs over as few candidates as make the draw the same as over
the whole vocabulary (``coverage``). So a grammar, which takes a tenth of a microsecond for each token it
looks at, is applied before the chain: each token is drawn once, and as llama.cpp draws it with the grammar
first.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import llama_cpp
import numpy as np

from kylin_gguf.engine.context import Logits
from kylin_gguf.engine.sampling.candidates import Candidates, shortlists
from kylin_gguf.engine.sampling.coverage import Truncation
from kylin_gguf.engine.sampling.grammar import Grammar
from kylin_gguf.engine.sampling.penalties import Penalties
from kylin_gguf.engine.vocabulary import Vocabulary
from kylin_gguf.errors import InvalidGrammar
from kylin_gguf.records import SamplingOptions


class Draw:
    """Draws by the probabilities that the chain leaves. ``close`` frees it."""

    def __init__(self, vocabulary: Vocabulary, options: SamplingOptions, prompt: Sequence[int]) -> None:
        self._truncation = Truncation.of(options, vocabulary.size)
        self._penalties = Penalties(vocabulary, options, prompt)
        self._chain = _build_chain(options)
        self._candidates = Candidates()

    def close(self) -> None:
        """Free the samplers (llama_sampler_free)."""
        self._penalties.close()
        llama_cpp.llama_sampler_free(self._chain)

    def next(self, logits: Logits, grammar: Grammar | None) -> int:
        """Return the next token.

        Raises:
            InvalidGrammar: the grammar allows no token.
        """
        candidates, recent = self._candidates, self._penalties.recent()
        for likeliest in shortlists(logits):
            ids, bound, outside = likeliest, -np.inf, len(logits) - len(likeliest)
            if outside:
                bound = float(logits[likeliest].min())
                # A penalty can raise what is recent, too: then its logit says nothing about where it comes.
                ids = np.sort(np.concatenate((likeliest, recent[logits[recent] < bound])))
            candidates.fill(ids, logits[ids])
            if grammar:
                grammar.restrict(candidates)
            self._penalties.apply(candidates)
            if self._truncation.covered(candidates.logits, bound, outside):
                break
        if not candidates.size:
            raise InvalidGrammar("no token of this model continues it")
        candidates.apply(self._chain)
        token = candidates.selected
        self._penalties.accept(token)
        return token


def _build_chain(options: SamplingOptions) -> llama_cpp.llama_sampler_p:
    chain = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
    # The highest seed means a random one to llama.cpp (get_rng_seed), so it shares the one below.
    highest = llama_cpp.LLAMA_DEFAULT_SEED - 1
    seed = secrets.randbelow(highest) if options.seed < 0 else min(options.seed, highest)
    if options.top_k:
        llama_cpp.llama_sampler_chain_add(chain, llama_cpp.llama_sampler_init_top_k(options.top_k))
    for sampler in (
        llama_cpp.llama_sampler_init_typical(options.typical_p, 1),
        llama_cpp.llama_sampler_init_top_p(options.top_p, 1),
        llama_cpp.llama_sampler_init_min_p(options.min_p, 1),
        llama_cpp.llama_sampler_init_xtc(options.xtc_probability, options.xtc_threshold, 1, seed),
        llama_cpp.llama_sampler_init_temp(options.temperature),
        llama_cpp.llama_sampler_init_dist(seed),
    ):
        llama_cpp.llama_sampler_chain_add(chain, sampler)
    return chain
