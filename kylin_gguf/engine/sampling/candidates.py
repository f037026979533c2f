"""The tokens that a sampler chain looks at: llama.cpp's ``llama_token_data_array``, and whom to put into
it."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator

import llama_cpp
import numpy as np
import numpy.typing as npt

from kylin_gguf.engine.context import Logits

# llama_token_data as numpy sees it: id, logit, p
_TOKEN_DATA = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])

_GROUP = 32
"""Tokens that ``highest`` looks at together before it looks at any of them alone."""

_WIDTHS = (128, 2048, 16384)
"""How many of the likeliest tokens are tried before all of them are."""

Ids = npt.NDArray[np.int32]


def shortlists(logits: Logits) -> Iterator[Ids]:
    """Yield ever more of the likeliest tokens, at last all; each list's ids ascend, and no token outside a
    list has a logit as high as one in it."""
    for width in _WIDTHS:
        if width < len(logits):
            ids = highest(logits, width)
            if 0 < len(ids) < len(logits):  # none are the highest among logits that are not numbers
                yield ids
    yield np.arange(len(logits), dtype=np.int32)


def highest(logits: Logits, count: int) -> Ids:
    """Return the ids of the ``count`` highest logits in ascending order, and of all that equal the lowest of
    them.

    Sorting out a whole vocabulary costs a millisecond, its groups' maxima microseconds. The ``count`` best
    are in the groups whose maxima are the ``count`` best, so only these are looked at.
    """
    width = len(logits) // _GROUP
    if count >= width:
        return _highest(logits, np.arange(len(logits), dtype=np.int32), count)
    head = width * _GROUP
    rows = logits[:head].reshape(_GROUP, width)  # a group is a column: maxima of whole rows are fast
    maxima = rows.max(axis=0)
    columns = np.flatnonzero(maxima >= np.partition(maxima, width - count)[width - count])
    inside = (columns + np.arange(0, head, width)[:, None]).ravel()
    ids = np.concatenate((inside, np.arange(head, len(logits)))).astype(np.int32)
    return _highest(logits, ids, count)


def _highest(logits: Logits, ids: Ids, count: int) -> Ids:
    if count >= len(ids):
        return ids
    values = logits[ids]
    least = np.partition(values, len(ids) - count)[len(ids) - count]
    best: Ids = ids[values >= least]
    return best


class Candidates:
    """A ``llama_token_data_array`` over a reusable numpy buffer."""

    def __init__(self) -> None:
        self._array = llama_cpp.llama_token_data_array(selected=-1, sorted=False)
        self._reference = ctypes.byref(self._array)
        self._allocate(1)

    def _allocate(self, capacity: int) -> None:
        self._data = np.zeros(capacity, _TOKEN_DATA)
        self._ids, self._logits = self._data["id"], self._data["logit"]
        self._pointer = self._data.ctypes.data_as(llama_cpp.llama_token_data_p)

    @property
    def size(self) -> int:
        """How many there are."""
        return int(self._array.size)

    @property
    def logits(self) -> Logits:
        """The candidates' logits as the samplers left them: a view, shape (size,)."""
        return self._logits[: self._array.size]

    @property
    def ids(self) -> Ids:
        """The candidates: a view, shape (size,)."""
        return self._ids[: self._array.size]

    def fill(self, ids: Ids, logits: Logits) -> None:
        """Start afresh from ``ids`` and their ``logits``, both of shape (count,)."""
        count = len(ids)
        if count > len(self._data):
            self._allocate(count)
        self._ids[:count] = ids
        self._logits[:count] = logits
        self._restart(count)

    def fill_one(self, token: int) -> None:
        """Start afresh from ``token`` alone, to ask a grammar about it."""
        self._ids[0], self._logits[0] = token, 0.0
        self._restart(1)

    def _restart(self, size: int) -> None:
        # Samplers move the pointer (llama_sample_xtc_apply), the size and the order.
        array = self._array
        array.data, array.size, array.selected, array.sorted = self._pointer, size, -1, False

    def apply(self, sampler: llama_cpp.llama_sampler_p) -> None:
        """Let ``sampler`` change the candidates (llama_sampler_apply)."""
        llama_cpp.llama_sampler_apply(sampler, self._reference)

    def drop_impossible(self) -> None:
        """Drop what a grammar has ruled out, by a logit of minus infinity (llama_grammar_apply_impl)."""
        size = self._array.size
        possible = self._logits[:size] > -np.inf
        left = int(np.count_nonzero(possible))
        if left < size:
            self._data[:left] = self._data[:size][possible]
            self._array.size = left

    @property
    def selected(self) -> int:
        """The token that a chain has chosen."""
        return int(self._array.data[self._array.selected].id)
