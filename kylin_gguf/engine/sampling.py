"""Draws tokens with llama.cpp's sampler chains; a grammar is checked on the drawn token first.

Masking a whole vocabulary by a grammar costs milliseconds a token, checking one token microseconds. So the
chain draws freely, the grammar judges that one token, and only a rejection pays for the full mask.
"""

from __future__ import annotations

import ctypes
import secrets

import llama_cpp
import numpy as np

from kylin_gguf.engine.context import Context, Logits
from kylin_gguf.engine.model import Model
from kylin_gguf.errors import InvalidGrammar
from kylin_gguf.records import SamplingOptions

# llama_token_data as numpy sees it: id, logit, p
_TOKEN_DATA = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])


class Candidates:
    """A ``llama_token_data_array`` over a reusable numpy buffer."""

    def __init__(self, ids: np.ndarray[tuple[int], np.dtype[np.int32]]) -> None:
        self._ids = ids
        self._data = np.zeros(len(ids), _TOKEN_DATA)
        self._array = llama_cpp.llama_token_data_array(
            data=self._data.ctypes.data_as(llama_cpp.llama_token_data_p),
            size=len(ids),
            selected=-1,
            sorted=False,
        )

    def fill(self, logits: Logits) -> None:
        """Start afresh from ``logits``, one for each id; samplers may since have reordered the buffer."""
        self._data["id"] = self._ids
        self._data["logit"] = logits
        self._data["p"] = 0.0
        self._array.size, self._array.selected, self._array.sorted = len(self._ids), -1, False

    def apply(self, sampler: llama_cpp.llama_sampler_p) -> None:
        """Let ``sampler`` change the candidates (llama_sampler_apply)."""
        llama_cpp.llama_sampler_apply(sampler, ctypes.byref(self._array))

    @property
    def selected(self) -> int:
        """The token that a chain has chosen."""
        return int(self._data["id"][self._array.selected])

    @property
    def possible(self) -> bool:
        """Whether the first candidate has not been ruled out."""
        return bool(np.isfinite(self._data["logit"][0]))


class Sampler:
    """The sampling state of one request. ``close`` frees it."""

    def __init__(self, model: Model, options: SamplingOptions) -> None:
        """Build the chain.

        Raises:
            InvalidGrammar: llama.cpp cannot parse ``options.grammar``.
        """
        self._grammar = self._build_grammar(model, options.grammar) if options.grammar else None
        self._chain = _build_chain(model.vocab_size, options)
        self._greedy = options.temperature == 0.0
        if self._grammar:
            self._everything = Candidates(np.arange(model.vocab_size, dtype=np.int32))

    @staticmethod
    def _build_grammar(model: Model, source: str) -> llama_cpp.llama_sampler_p:
        grammar = llama_cpp.llama_sampler_init_grammar(model.vocab, source.encode(), b"root")
        if not grammar:
            raise InvalidGrammar("llama.cpp could not parse it, or it has no rule 'root'")
        return grammar

    def close(self) -> None:
        """Free the samplers (llama_sampler_free)."""
        for sampler in filter(None, (self._grammar, self._chain)):
            llama_cpp.llama_sampler_free(sampler)
        self._grammar = self._chain = None

    def sample(self, context: Context, index: int) -> int:
        """Draw and accept the next token from the batch's output ``index``.

        Raises:
            InvalidGrammar: no token of this vocabulary continues what the grammar has accepted.
        """
        if self._grammar is None:
            if self._greedy:  # the same token, without sorting out a whole vocabulary of candidates
                return int(context.logits(index).argmax())
            return int(llama_cpp.llama_sampler_sample(self._chain, context.handle, index))
        token = self._draw(context.logits(index), masked=False)
        if not self._allows(token):
            token = self._draw(context.logits(index), masked=True)
            # Accepting a token that the grammar forbids throws through C and would end the process.
            if not self._allows(token):
                raise InvalidGrammar("no token of this model continues it")
        for sampler in (self._grammar, self._chain):
            llama_cpp.llama_sampler_accept(sampler, token)
        return token

    def _draw(self, logits: Logits, *, masked: bool) -> int:
        self._everything.fill(logits)
        if masked:
            self._everything.apply(self._grammar)
        self._everything.apply(self._chain)
        return self._everything.selected

    def _allows(self, token: int) -> bool:
        single = Candidates(np.array([token], dtype=np.int32))
        single.fill(np.zeros(1, np.float32))
        single.apply(self._grammar)
        return single.possible


def _build_chain(vocab_size: int, options: SamplingOptions) -> llama_cpp.llama_sampler_p:
    """Chain in llama.cpp's usual order: penalties, then truncation, then temperature, then the draw."""
    chain = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())

    def add(sampler: llama_cpp.llama_sampler_p) -> None:
        llama_cpp.llama_sampler_chain_add(chain, sampler)

    if options.temperature == 0.0:  # greedy is exact: no penalty may move the best token
        add(llama_cpp.llama_sampler_init_greedy())
        return chain
    if options.repeat_last_n and options.repeat_penalty != 1.0:
        add(
            llama_cpp.llama_sampler_init_penalties(
                vocab_size, options.repeat_last_n, options.repeat_penalty, 0.0, 0.0
            )
        )
    if options.top_k:
        add(llama_cpp.llama_sampler_init_top_k(options.top_k))
    add(llama_cpp.llama_sampler_init_top_p(options.top_p, 1))
    add(llama_cpp.llama_sampler_init_min_p(options.min_p, 1))
    add(llama_cpp.llama_sampler_init_temp(options.temperature))
    seed = secrets.randbits(32) if options.seed < 0 else options.seed
    add(llama_cpp.llama_sampler_init_dist(seed))
    return chain
