"""The hidden state of each token before the first block of a model and behind every block.

Nothing here is thread-safe: one process, one thread. Names in parentheses are of ``llama.h`` and ``ggml.h``.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence

import llama_cpp
import numpy as np

from kylin_gguf import native
from kylin_gguf.engine import decode_status
from kylin_gguf.engine.batch import Batch
from kylin_gguf.engine.blocks.similarity import States
from kylin_gguf.engine.model import LogTail, Model
from kylin_gguf.errors import UnsupportedModel

_BATCH_TOKENS = 128
"""Of so many tokens all states are held at a time: 340 MB for 80 blocks that are 8192 wide."""
_EMBEDDINGS = b"embd"
"""What llm_graph_context::build_inp_embd calls them. Some graphs scale them once more, which turns none."""
_PROTOTYPES = {
    "ggml_backend_tensor_get": (None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t),
    "ggml_get_name": (ctypes.c_char_p, ctypes.c_void_p),
    "ggml_nelements": (ctypes.c_int64, ctypes.c_void_p),
}


class BlockStates:
    """A context that looks at the states between blocks, for texts of up to ``longest`` tokens."""

    def __init__(self, model: Model, longest: int, threads: int, log: LogTail) -> None:
        """Allocate (llama_init_from_model).

        Raises:
            LoadFailed: not enough memory, or the model cannot run so.
        """
        self._path = str(model.path)
        self._width: int = llama_cpp.llama_model_n_embd(model.handle)
        self._blocks: int = llama_cpp.llama_model_n_layer(model.handle)
        # The names that llm_graph_context's callback gives.
        names = [_EMBEDDINGS, *(f"l_out-{block}".encode() for block in range(self._blocks))]
        self._places = {name: place for place, name in enumerate(names)}
        self._seen: dict[int, States] = {}
        self._ggml = native.functions(_PROTOTYPES)
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = longest
        params.n_batch = params.n_ubatch = min(_BATCH_TOKENS, longest)
        params.n_threads = params.n_threads_batch = threads
        params.no_perf = True
        # C keeps the pointer as long as the context lives.
        self._callback = llama_cpp.ggml_backend_sched_eval_callback(self._see)
        params.cb_eval = self._callback
        self._handle = llama_cpp.llama_init_from_model(model.handle, params)
        if not self._handle:
            raise log.failure(model.path)
        self._batch = Batch(params.n_batch, params.n_batch)

    @property
    def places(self) -> int:
        """How many states a token has: one before the first block, and one behind each."""
        return len(self._places)

    def _see(self, tensor: int, ask: bool, _: object) -> bool:
        """Say whether ``tensor`` is wanted (``ask``); once it was computed take it. Behind the last block
        nothing is left to compute: returning False ends the graph (ggml_backend_sched_eval_callback)."""
        place = self._places.get(self._ggml.ggml_get_name(tensor))
        if ask or place is None:
            return place is not None or not ask
        tokens = self._ggml.ggml_nelements(tensor) // self._width
        state = np.empty((tokens, self._width), np.float32)
        self._ggml.ggml_backend_tensor_get(tensor, state.ctypes.data, 0, state.nbytes)
        self._seen[place] = state
        return place < self._blocks

    def of(self, tokens: Sequence[int]) -> Iterator[States]:
        """Yield the states of a text, part by part, each of shape (blocks + 1, tokens of the part, width).

        Raises:
            MemoryError, DecodeFailed: as ``decode_status.check``.
            UnsupportedModel: the graph of this architecture has no such tensors, or their numbers are none.
        """
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._handle), True)
        for start in range(0, len(tokens), self._batch.capacity):
            self._batch.clear()
            self._seen.clear()
            for position, token in enumerate(tokens[start : start + self._batch.capacity], start):
                # The last block is computed only for tokens that give logits.
                self._batch.add(token, position, 0, logits=True)
            decode_status.check(llama_cpp.llama_decode(self._handle, self._batch.as_struct()))
            yield self._whole()

    def _whole(self) -> States:
        """Return what was seen of a batch as one array."""
        for name, place in self._places.items():
            if place not in self._seen or len(self._seen[place]) != self._batch.size:
                raise UnsupportedModel(self._path, f"its graph has no tensor {name.decode()} of all tokens")
        states = np.stack([self._seen[place] for place in range(self._blocks + 1)])
        if not np.isfinite(states).all():
            raise UnsupportedModel(self._path, "its hidden states are not finite")
        return states
