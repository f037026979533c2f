"""One KV cache over one model, and the batches that go through it, through llama.cpp's low-level C API.

Nothing here is thread-safe: one worker, one thread. Names in parentheses are functions of ``llama.h``.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import llama_cpp
import numpy as np
import numpy.typing as npt

from kylin_gguf.engine.model import LogTail, Model
from kylin_gguf.errors import ContextFull, DecodeFailed, LoadFailed
from kylin_gguf.records import Placement

MAX_LANES = 64
"""Sequence ids beyond the placement's, kept for scoring; llama.cpp allows 256 in all (LLAMA_MAX_SEQ)."""

_NO_KV_SLOT = 1  # llama_decode: "could not find a KV slot for the batch"

Logits = npt.NDArray[np.float32]


@dataclass
class Batch:
    """Tokens for one ``llama_decode``; arrays are allocated once and reused."""

    capacity: int

    def __post_init__(self) -> None:
        self.size = 0
        self._tokens = np.zeros(self.capacity, np.int32)
        self._positions = np.zeros(self.capacity, np.int32)
        self._sequence_counts = np.zeros(self.capacity, np.int32)
        self._sequences = np.zeros((self.capacity, MAX_LANES), np.int32)
        self._wants_logits = np.zeros(self.capacity, np.int8)
        rows = (ctypes.POINTER(ctypes.c_int32) * self.capacity)()
        for index in range(self.capacity):
            rows[index] = self._sequences[index].ctypes.data_as(ctypes.POINTER(ctypes.c_int32))
        as_int = ctypes.POINTER(ctypes.c_int32)
        self._rows = rows  # the structure points to them
        self._struct = llama_cpp.llama_batch(
            n_tokens=0,
            token=self._tokens.ctypes.data_as(as_int),
            embd=None,
            pos=self._positions.ctypes.data_as(as_int),
            n_seq_id=self._sequence_counts.ctypes.data_as(as_int),
            seq_id=ctypes.cast(rows, ctypes.POINTER(as_int)),
            logits=self._wants_logits.ctypes.data_as(ctypes.POINTER(ctypes.c_int8)),
        )

    @property
    def room(self) -> int:
        """How many more tokens fit."""
        return self.capacity - self.size

    def clear(self) -> None:
        """Forget all tokens."""
        self.size = 0

    def add(self, token: int, position: int, sequences: Sequence[int], *, logits: bool = False) -> int:
        """Append one token that belongs to all of ``sequences``; return its index in the batch."""
        index = self.size
        self._tokens[index] = token
        self._positions[index] = position
        self._sequence_counts[index] = len(sequences)
        self._sequences[index, : len(sequences)] = sequences
        self._wants_logits[index] = logits
        self.size += 1
        return index

    def as_struct(self) -> llama_cpp.llama_batch:
        """Return the C structure that points into these arrays."""
        self._struct.n_tokens = self.size
        return self._struct


class Context:
    """One KV cache over one model, shared by all sequences."""

    def __init__(self, model: Model, placement: Placement, log: LogTail) -> None:
        """Allocate the cache and compute buffers (llama_init_from_model).

        Raises:
            LoadFailed: not enough memory, or the model cannot run so.
        """
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = placement.context_length
        params.n_batch = params.n_ubatch = placement.batch_size
        params.n_seq_max = placement.sequences + MAX_LANES
        # One buffer for all sequences: a prefix is shared by copying cell marks, not cells.
        params.kv_unified = True
        params.n_threads = params.n_threads_batch = placement.threads
        params.no_perf = True
        self.handle = llama_cpp.llama_init_from_model(model.handle, params)
        if not self.handle:
            raise LoadFailed(str(model.path), log.reason())
        self._memory = llama_cpp.llama_get_memory(self.handle)
        self.has_cache = bool(self._memory)
        """Whether what was decoded is kept for later tokens: encoders and diffusion models have no memory."""
        self._vocab_size = model.vocab_size
        self.length: int = llama_cpp.llama_n_ctx(self.handle)
        self.batch_size: int = llama_cpp.llama_n_batch(self.handle)
        self.cuttable = not (
            llama_cpp.llama_model_is_recurrent(model.handle) or llama_cpp.llama_model_is_hybrid(model.handle)
        )
        """Whether a sequence can be shortened: a recurrent state has no past to go back to."""

    def close(self) -> None:
        """Free the cache (llama_free)."""
        llama_cpp.llama_free(self.handle)

    def decode(self, batch: Batch) -> None:
        """Run ``batch`` through the model (llama_decode).

        Raises:
            ContextFull: no free KV cells; the cache is as before the call.
            DecodeFailed: any other status.
        """
        status = llama_cpp.llama_decode(self.handle, batch.as_struct())
        if status == _NO_KV_SLOT:
            raise ContextFull(batch.size, self.length)
        if status != 0:
            raise DecodeFailed(status)

    def logits(self, index: int) -> Logits:
        """Return the logits of the batch's token ``index``, shape (vocab_size,), a view that the next decode
        overwrites (llama_get_logits_ith)."""
        pointer = llama_cpp.llama_get_logits_ith(self.handle, index)
        return np.ctypeslib.as_array(pointer, shape=(self._vocab_size,))

    def truncate(self, sequence: int, length: int) -> bool:
        """Keep the first ``length`` positions of ``sequence``; False where the model's memory cannot be cut
        (llama_memory_seq_rm), in which case nothing changed."""
        return bool(llama_cpp.llama_memory_seq_rm(self._memory, sequence, length, -1))

    def share(self, source: int, target: int, length: int) -> None:
        """Make ``target`` begin with the first ``length`` positions of ``source`` (llama_memory_seq_cp)."""
        llama_cpp.llama_memory_seq_cp(self._memory, source, target, 0, length)
