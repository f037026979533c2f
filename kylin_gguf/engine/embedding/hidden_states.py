"""What a generating model makes of a text before it writes a word: the hidden state of the text's last token.

llama.cpp gives out the last layer's only, and the input of a chosen one (llama_set_embeddings_layer_inp) for
some architectures; a callback sees every tensor of every architecture.

Nothing here is thread-safe: one worker, one thread. Names in parentheses are of ``llama.h`` and ``ggml.h``.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Sequence

import llama_cpp
import numpy as np

from kylin_gguf import native
from kylin_gguf.engine import decode_status
from kylin_gguf.engine.batch import Batch
from kylin_gguf.engine.embedding import packing
from kylin_gguf.engine.embedding.context import Vectors
from kylin_gguf.engine.model import LogTail, Model
from kylin_gguf.engine.radix_tree import common_prefix
from kylin_gguf.engine.threads import Threads
from kylin_gguf.errors import UnsupportedModel
from kylin_gguf.records import Placement

PACKED_TOKENS = 64
"""Texts are put together up to so many new tokens: a batch takes a few tenths of a second at most, and
somebody's next token may have to wait for it. Larger ones are hardly quicker for each token."""

_CONTEXT_TOKENS = 1536
"""With less than 200 tokens else, ``actuator.prompt.MAX_LISTED`` bytes leave room for an utterance."""
_BATCH_TOKENS = 256
_MOST_TEXTS = 16
_PROTOTYPES = {
    "ggml_backend_tensor_get": (None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t),
    "ggml_get_name": (ctypes.c_char_p, ctypes.c_void_p),
    "ggml_nelements": (ctypes.c_int64, ctypes.c_void_p),
}
_START = 0  # the sequence that holds what all texts begin with


class HiddenStateContext:
    """A small context beside the one that generates, over the same weights."""

    def __init__(self, model: Model, placement: Placement, log: LogTail) -> None:
        """Allocate (llama_init_from_model).

        Raises:
            LoadFailed: not enough memory, or the model cannot run so.
        """
        self._path = str(model.path)
        self._dimensions: int = llama_cpp.llama_model_n_embd(model.handle)
        self._layers: int = llama_cpp.llama_model_n_layer(model.handle)
        self._wanted = b""
        self._seen: Vectors | None = None
        self._ggml = native.functions(_PROTOTYPES)
        self._handle = llama_cpp.llama_init_from_model(model.handle, self._params(placement))
        if not self._handle:
            raise log.failure(model.path)
        self._threads = Threads(placement.threads)
        self._memory = llama_cpp.llama_get_memory(self._handle)
        self._batch = Batch(_BATCH_TOKENS, _BATCH_TOKENS)
        self._start: list[int] = []
        self._held: list[int] = []
        """What of ``_start`` the cache has: all of it or, at first and after a failure, nothing."""

    def _params(self, placement: Placement) -> llama_cpp.llama_context_params:
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = _CONTEXT_TOKENS
        params.n_batch = params.n_ubatch = _BATCH_TOKENS
        params.n_seq_max = params.n_outputs_max = 1 + _MOST_TEXTS
        params.kv_unified = True
        params.n_threads = params.n_threads_batch = placement.threads
        params.no_perf = True
        # C keeps the pointer as long as the context lives.
        self._callback = llama_cpp.ggml_backend_sched_eval_callback(self._see)
        params.cb_eval = self._callback
        return params

    def _see(self, tensor: int, ask: bool, _: object) -> bool:
        """Say whether ``tensor`` is the one (``ask``); once it was computed take it, and say to stop there:
        neither the layers above nor the logits, of which a small model's are a third of the work, are needed
        (ggml_backend_sched_eval_callback)."""
        found = bool(self._ggml.ggml_get_name(tensor) == self._wanted)
        if ask or not found:
            return found or not ask
        tokens = self._ggml.ggml_nelements(tensor) // self._dimensions
        self._seen = np.empty((tokens, self._dimensions), np.float32)
        self._ggml.ggml_backend_tensor_get(tensor, self._seen.ctypes.data, 0, self._seen.nbytes)
        return False

    def look(self, depth: float, start: Sequence[int]) -> None:
        """Look behind the layer at ``depth``, 0 to 1; let texts begin with ``start``, computed once."""
        layer = min(round(depth * self._layers), self._layers - 1)
        self._wanted = f"l_out-{layer}".encode()  # the name that llm_graph_context's callback gives it
        self._start, self._held = list(start), []

    @property
    def longest(self) -> int:
        """Tokens of the longest text, with what all begin with."""
        return min(len(self._start) + _BATCH_TOKENS, _CONTEXT_TOKENS)

    def fitting(self, lengths: Sequence[int]) -> int:
        """Return how many of the next texts, at least one, go into one batch, given their ``lengths``."""
        new = [length - len(self._start) for length in lengths]
        return packing.fitting(new, texts=_MOST_TEXTS, tokens=PACKED_TOKENS)

    def embed(self, texts: Sequence[Sequence[int]]) -> Vectors:
        """Return the hidden state of the last token of each text, shape (len(texts), width of the model).

        Args:
            texts: Tokens of at least one text; as many as ``fitting`` allows, none longer than ``longest``.

        Raises:
            MemoryError, DecodeFailed: as ``decode_status.check``.
            UnsupportedModel: the graph of this architecture has no such tensor, or its numbers are none.
        """
        self._hold_start()
        self._batch.clear()
        last = []
        for sequence, tokens in enumerate(texts, _START + 1):
            shared = min(common_prefix(tokens, self._held), len(tokens) - 1)
            llama_cpp.llama_memory_seq_cp(self._memory, _START, sequence, 0, shared)
            for position in range(shared, len(tokens)):
                index = self._batch.add(tokens[position], position, sequence)
            last.append(index)
        try:
            states = self._decode()[last]
        finally:
            for sequence in range(_START + 1, _START + 1 + len(texts)):
                llama_cpp.llama_memory_seq_rm(self._memory, sequence, -1, -1)
        if not np.isfinite(states).all():
            raise UnsupportedModel(self._path, "its hidden states are not finite")
        return states

    def _hold_start(self) -> None:
        if self._held == self._start:
            return
        llama_cpp.llama_memory_clear(self._memory, True)
        self._held = []
        for first in range(0, len(self._start), _BATCH_TOKENS):
            self._batch.clear()
            self._batch.extend(self._start[first : first + _BATCH_TOKENS], first, _START)
            self._decode()
        self._held = list(self._start)

    def _decode(self) -> Vectors:
        self._seen = None
        count = self._threads.next(self._batch.size)
        llama_cpp.llama_set_n_threads(self._handle, count, count)
        began = time.perf_counter()
        status = llama_cpp.llama_decode(self._handle, self._batch.as_struct())
        if status != 0:
            self._held = []
        decode_status.check(status)
        self._threads.observe(self._batch.size, time.perf_counter() - began)
        if self._seen is None:
            raise UnsupportedModel(self._path, f"its graph has no tensor {self._wanted.decode()}")
        return self._seen
