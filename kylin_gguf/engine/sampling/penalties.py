"""What makes tokens less likely because they have just been used: penalties and DRY."""

from __future__ import annotations

import ctypes
from collections import Counter, deque
from collections.abc import Sequence

import llama_cpp
import numpy as np

from kylin_gguf.engine.sampling.candidates import Candidates, Ids
from kylin_gguf.engine.vocabulary import Vocabulary
from kylin_gguf.records import SamplingOptions

# What ends a repetition for DRY: llama.cpp's own (common_params_sampling.dry_sequence_breakers).
_BREAKERS = (b"\n", b":", b'"', b"*")


class Penalties:
    """llama.cpp's penalties and DRY samplers, and the tokens they may change. ``close`` frees them."""

    def __init__(self, vocabulary: Vocabulary, options: SamplingOptions, prompt: Sequence[int]) -> None:
        """Build the samplers that ``options`` ask for and show them the end of ``prompt``."""
        self._chain = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
        self._window = max(
            _add_penalties(self._chain, vocabulary, options), _add_dry(self._chain, vocabulary, options)
        )
        self._last: deque[int] = deque()
        self._counts: Counter[int] = Counter()
        for token in prompt[-self._window :] if self._window else ():
            self.accept(token)

    def close(self) -> None:
        """Free the samplers (llama_sampler_free)."""
        llama_cpp.llama_sampler_free(self._chain)

    def recent(self) -> Ids:
        """Return the tokens whose logits may be changed, each once."""
        return np.fromiter(self._counts, np.int32, len(self._counts))

    def apply(self, candidates: Candidates) -> None:
        """Change the logits of what is recent."""
        if self._window:
            candidates.apply(self._chain)

    def accept(self, token: int) -> None:
        """Note that ``token`` was used."""
        if not self._window:
            return
        llama_cpp.llama_sampler_accept(self._chain, token)
        self._last.append(token)
        self._counts[token] += 1
        if len(self._last) > self._window:
            oldest = self._last.popleft()
            self._counts[oldest] -= 1
            if not self._counts[oldest]:
                del self._counts[oldest]


def _add_penalties(chain: llama_cpp.llama_sampler_p, vocabulary: Vocabulary, options: SamplingOptions) -> int:
    """Add the penalties that are on; return how many tokens back they look."""
    penalties = (options.repeat_penalty, options.frequency_penalty, options.presence_penalty)
    if not options.repeat_last_n or penalties == (1.0, 0.0, 0.0):
        return 0
    sampler = llama_cpp.llama_sampler_init_penalties(vocabulary.size, options.repeat_last_n, *penalties)
    llama_cpp.llama_sampler_chain_add(chain, sampler)
    return options.repeat_last_n


def _add_dry(chain: llama_cpp.llama_sampler_p, vocabulary: Vocabulary, options: SamplingOptions) -> int:
    """Add DRY if it is on; return how many tokens back it looks."""
    if not options.dry_multiplier or not options.dry_penalty_last_n:
        return 0
    sampler = llama_cpp.llama_sampler_init_dry(
        vocabulary.handle,
        options.dry_multiplier,
        options.dry_base,
        options.dry_allowed_length,
        options.dry_penalty_last_n,
        (ctypes.c_char_p * len(_BREAKERS))(*_BREAKERS),
        len(_BREAKERS),
    )
    llama_cpp.llama_sampler_chain_add(chain, sampler)
    return options.dry_penalty_last_n
