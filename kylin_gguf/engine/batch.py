"""Tokens for one ``llama_decode``, in arrays that are allocated once and reused.

Nothing here is thread-safe: one worker, one thread.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import llama_cpp
import numpy as np


class Batch:
    """Up to ``capacity`` tokens, of which up to ``max_outputs`` give logits."""

    def __init__(self, capacity: int, max_outputs: int) -> None:
        self.capacity, self.max_outputs = capacity, max_outputs
        self.size = self.outputs = 0
        self._tokens = np.zeros(capacity, np.int32)
        self._positions = np.zeros(capacity, np.int32)
        self._sequence_counts = np.ones(capacity, np.int32)
        self._sequences = np.zeros((capacity, 1), np.int32)
        self._wants_logits = np.zeros(capacity, np.int8)
        as_int = ctypes.POINTER(ctypes.c_int32)
        rows = (as_int * capacity)()
        for index in range(capacity):
            rows[index] = self._sequences[index].ctypes.data_as(as_int)
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
        self.size = self.outputs = 0

    def add(self, token: int, position: int, sequence: int, *, logits: bool = False) -> int:
        """Append one token of ``sequence``; return its index in the batch."""
        index = self.size
        self._tokens[index] = token
        self._positions[index] = position
        self._sequences[index, 0] = sequence
        self._wants_logits[index] = logits
        self.size += 1
        self.outputs += logits
        return index

    def extend(self, tokens: Sequence[int], position: int, sequence: int) -> None:
        """Append consecutive tokens of one sequence, none of which gives logits."""
        start, end = self.size, self.size + len(tokens)
        self._tokens[start:end] = tokens
        self._positions[start:end] = np.arange(position, position + len(tokens))
        self._sequences[start:end, 0] = sequence
        self._wants_logits[start:end] = False
        self.size = end

    def as_struct(self) -> llama_cpp.llama_batch:
        """Return the C structure that points into these arrays."""
        self._struct.n_tokens = self.size
        return self._struct
