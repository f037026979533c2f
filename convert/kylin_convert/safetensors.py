"""The safetensors container, read without trusting it.

Format: https://huggingface.co/docs/safetensors (8-byte little-endian header length, a JSON header, then the
data). Parsed here rather than through the library because its NumPy interface has no bfloat16, and because
a conversion reads each tensor once, straight from the page cache.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kylin_gguf.errors import BadCheckpoint, FileMissing

Array = npt.NDArray[Any]

MAX_HEADER = 100_000_000
"""Bytes; the limit of the reference implementation."""

MAX_TENSORS = 1 << 18
"""Tensors of a file; DeepSeek-R1, the largest in experts, has 91 thousand in all of its files."""

LENGTH_BYTES = 8
_MAX_DIMENSIONS = 8
# What the tensor's bytes are read as. NumPy has no bfloat16, so its bits travel as uint16.
_STORED: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
}
# What may lie beside the weights, such as BERT's position numbers. Nothing maps these.
_INTEGERS = {"I64": 8, "U64": 8, "I32": 4, "U32": 4, "I16": 2, "U16": 2, "I8": 1, "U8": 1, "BOOL": 1}
ELEMENT_BYTES = {**{name: stored.itemsize for name, stored in _STORED.items()}, **_INTEGERS}
"""Bytes of an element by type."""


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of a file. ``offset`` counts from the start of the file; sizes in bytes."""

    path: Path
    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    nbytes: int

    @property
    def is_float(self) -> bool:
        """Whether its values can be weights."""
        return self.dtype in _STORED

    @property
    def precision(self) -> str:
        """The type that holds its values exactly."""
        return self.dtype

    def map(self) -> Array:
        """Return the stored floats as a memory map; BF16 as the uint16 of its bits (see ``widen``)."""
        stored = _STORED[self.dtype]
        if not self.nbytes:
            return np.empty(self.shape, dtype=stored)
        return np.memmap(self.path, dtype=stored, mode="r", offset=self.offset, shape=self.shape)


def widen(stored: Array) -> Array:
    """Return values from ``StoredTensor.map``: F16 and F32 as they are, the others as F32.

    A bfloat16 is the upper half of the float32 of equal value, so widening is exact. F64 is narrowed, as
    upstream's converter does.
    """
    if stored.dtype == np.uint16:
        return (stored.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return stored.astype(np.float32) if stored.dtype == np.float64 else stored


def read_header(path: Path) -> dict[str, StoredTensor]:
    """Return the tensors of ``path`` by name, each within the file's bounds.

    Raises:
        FileMissing: the file cannot be read.
        BadCheckpoint: truncated, not safetensors, or a tensor that lies outside the data or overlaps another.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(LENGTH_BYTES), "little")
            if size < LENGTH_BYTES or not 0 < length <= min(MAX_HEADER, size - LENGTH_BYTES):
                raise BadCheckpoint(str(path), "it is truncated or not a safetensors file")
            header = file.read(length)
    except OSError as error:
        raise FileMissing(str(path), error.strerror or str(error)) from error
    try:
        entries = json.loads(header)
    except (ValueError, RecursionError) as error:
        raise BadCheckpoint(str(path), f"its header is not JSON ({error})") from error
    if not isinstance(entries, dict):
        raise BadCheckpoint(str(path), "its header is not a JSON object")
    entries.pop("__metadata__", None)
    if len(entries) > MAX_TENSORS:
        raise BadCheckpoint(str(path), f"it lists {len(entries)} tensors, more than {MAX_TENSORS}")
    start = LENGTH_BYTES + length
    tensors = {name: _tensor(path, name, entry, start, size) for name, entry in entries.items()}
    _refuse_overlaps(path, tensors)
    return tensors


def _tensor(path: Path, name: str, entry: Any, start: int, size: int) -> StoredTensor:
    match entry:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [int(begin), int(end)]}:
            pass
        case _:
            raise BadCheckpoint(str(path), f"the header's entry for tensor {name} is malformed")
    if dtype not in ELEMENT_BYTES:
        known = ", ".join(_STORED)
        raise BadCheckpoint(str(path), f"tensor {name} has type {dtype}; this converter reads {known}")
    plain = len(shape) <= _MAX_DIMENSIONS and all(type(n) is int and n >= 0 for n in shape)
    if not plain or not 0 <= begin <= end or end - begin != prod(shape) * ELEMENT_BYTES[dtype]:
        raise BadCheckpoint(str(path), f"tensor {name}: shape and size disagree")
    if start + end > size:
        raise BadCheckpoint(str(path), f"it is truncated: tensor {name} ends at byte {start + end} of {size}")
    return StoredTensor(path, name, dtype, tuple(shape), start + begin, end - begin)


def _refuse_overlaps(path: Path, tensors: dict[str, StoredTensor]) -> None:
    end = 0
    for tensor in sorted(tensors.values(), key=lambda t: (t.offset, t.nbytes)):
        if tensor.offset < end:
            raise BadCheckpoint(str(path), f"tensor {tensor.name} overlaps another")
        end = tensor.offset + tensor.nbytes
