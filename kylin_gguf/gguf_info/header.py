"""Read and check a GGUF header; see the package's docstring for what is trusted."""

from __future__ import annotations

import math
import os
import stat
import struct
from collections.abc import Mapping
from functools import lru_cache
from io import FileIO
from pathlib import Path
from typing import Final

from kylin_gguf.errors import FileMissing
from kylin_gguf.gguf_info.cursor import U32, U64, Cursor
from kylin_gguf.gguf_info.records import GgufInfo, MetadataValue, Scalar, Skipped, TensorInfo
from kylin_gguf.gguf_info.summary import KEPT_STRING_BYTES, summarise

MAGIC: Final = b"GGUF"
VERSIONS: Final = (2, 3)
DEFAULT_ALIGNMENT: Final = 32

# Limits, far above what real models use, that keep a hostile header cheap to refuse.
_MAX_ENTRIES: Final = 1 << 16  # metadata keys; tensors
_MAX_KEY_BYTES: Final = (1 << 16) - 1  # the specification's own limit
_MAX_TENSOR_NAME_BYTES: Final = 63  # GGML_MAX_NAME less its terminator
_MAX_DIMENSIONS: Final = 4  # GGML_MAX_DIMS
_MAX_STRING_BYTES: Final = 1 << 30  # GGUF_MAX_STRING_LENGTH
_MAX_ARRAY_LENGTH: Final = 1 << 24
_INT64_MAX: Final = (1 << 63) - 1
_KEPT_ARRAY_LENGTH: Final = 1024  # per-layer figures and language lists are shorter
_KEPT_BYTES: Final = 1 << 24  # of the metadata that is kept, all together

_STRING: Final = 8
_ARRAY: Final = 9
# gguf_type in ggml/include/gguf.h, from 0 on, and struct's letter for each.
_TYPES: Final = (
    *(("u8", "B"), ("i8", "b"), ("u16", "H"), ("i16", "h"), ("u32", "I"), ("i32", "i"), ("f32", "f")),
    *(("bool", "?"), ("string", ""), ("array", ""), ("u64", "Q"), ("i64", "q"), ("f64", "d")),
)
_SCALARS: Final = {code: struct.Struct("<" + letter) for code, (_, letter) in enumerate(_TYPES) if letter}


def read(path: Path | str) -> GgufInfo:
    """Read and check the header of ``path``; tensor data is not touched.

    Raises:
        FileMissing: ``path`` is not a regular file that can be read.
        NotGguf: it is not GGUF version 2 or 3, or breaks the format.
        TruncatedGguf: it ends before its header or its tensors do.
    """
    path = Path(path)
    try:
        with open(path, "rb", buffering=0, opener=_open_without_waiting) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise FileMissing(str(path), "not a regular file")
            return _remembered(file, path, status)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise FileMissing(str(path), getattr(error, "strerror", None) or str(error)) from error


_KEPT_HEADERS: Final = 16
_headers: dict[tuple[Path, int, int, int, int], GgufInfo] = {}
"""What was read, by the file's identity; the oldest goes first. Walking over a vocabulary takes up to 50 ms,
and every session asks for its model's header."""


def _remembered(file: FileIO, path: Path, status: os.stat_result) -> GgufInfo:
    # Whatever is written to a file changes its ctime, which nobody can set back.
    key = (path, status.st_dev, status.st_ino, status.st_size, status.st_ctime_ns)
    info = _headers.pop(key, None) or _read_open(Cursor(file, str(path), status.st_size), path)
    _headers[key] = info
    for oldest in list(_headers)[:-_KEPT_HEADERS]:
        _headers.pop(oldest, None)
    return info


def _open_without_waiting(path: str, flags: int) -> int:
    # Without O_NONBLOCK the opening of a FIFO would wait for a writer.
    return os.open(path, flags | os.O_NONBLOCK)


def _read_open(reader: Cursor, path: Path) -> GgufInfo:
    version, tensor_count, key_count = _preamble(reader)
    metadata = _metadata(reader, key_count)
    tensors = _tensors(reader, tensor_count, _alignment(reader, metadata))
    return summarise(reader, path, version, metadata, tensors)


def _preamble(reader: Cursor) -> tuple[int, int, int]:
    """Return version, tensor count and key count."""
    if reader.size < len(MAGIC) or reader.take(len(MAGIC)) != MAGIC:
        raise reader.refuse("it does not begin with the letters GGUF")
    version = reader.number(U32)
    if version & 0xFFFF == 0:
        raise reader.refuse("it is written for big-endian machines")
    if version not in VERSIONS:
        raise reader.refuse(f"version {version}, and only 2 and 3 are known")
    tensor_count, key_count = reader.number(U64), reader.number(U64)
    for count, what in ((tensor_count, "tensors"), (key_count, "metadata keys")):
        if count > _MAX_ENTRIES:
            raise reader.refuse(f"{count} {what}")
    return version, tensor_count, key_count


def _metadata(reader: Cursor, count: int) -> dict[str, MetadataValue]:
    metadata: dict[str, MetadataValue] = {}
    room = _KEPT_BYTES
    for _ in range(count):
        start = reader.position
        key = reader.name(min(_MAX_KEY_BYTES, room), "a metadata key")
        if not key or key in metadata:
            raise reader.refuse(f"the metadata key '{key}' is empty or given twice")
        code = reader.number(U32)
        value = _array(reader, key, room) if code == _ARRAY else _scalar(reader, key, code, room)
        metadata[key] = value
        room -= len(key) if isinstance(value, Skipped) else reader.position - start
        room = max(room, 0)
    return metadata


def _scalar(reader: Cursor, key: str, code: int, room: int) -> Scalar | Skipped:
    """Read one value; a string that needs more than ``room`` bytes is stepped over."""
    if code == _STRING:
        length = reader.string_length(_MAX_STRING_BYTES, f"the value of '{key}'")
        if length > min(KEPT_STRING_BYTES, room):
            start = reader.position
            reader.skip(length)
            return Skipped(_TYPES[_STRING][0], length, start)
        # Values are for display and templates; llama.cpp accepts any bytes here, so we do too.
        return reader.take(length).decode(errors="replace")
    if code not in _SCALARS:
        raise reader.refuse(f"'{key}' has the unknown type {code}")
    value: Scalar = reader.number(_SCALARS[code])
    return value


def _array(reader: Cursor, key: str, room: int) -> tuple[Scalar, ...] | Skipped:
    """Read a short array; step over one that is long or needs more than ``room`` bytes."""
    code, length = reader.number(U32), reader.number(U64)
    if code != _STRING and code not in _SCALARS:
        raise reader.refuse(
            f"'{key}' is an array of the {'nested' if code == _ARRAY else 'unknown'} type {code}"
        )
    if length > _MAX_ARRAY_LENGTH:
        raise reader.refuse(f"'{key}' is an array of {length} elements")
    start = reader.position
    if length > min(_KEPT_ARRAY_LENGTH, room):
        if code == _STRING:
            reader.skip_strings(length)
        else:
            reader.skip(length * _SCALARS[code].size)
        return Skipped(_TYPES[code][0], length, start)
    end = start + room
    values = tuple(_scalar(reader, key, code, max(end - reader.position, 0)) for _ in range(length))
    kept = tuple(value for value in values if not isinstance(value, Skipped))
    return kept if len(kept) == length else Skipped(_TYPES[code][0], length, start)


def _alignment(reader: Cursor, metadata: Mapping[str, MetadataValue]) -> int:
    value = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0 or value & (value - 1):
        raise reader.refuse(f"general.alignment is {value!r}, not a power of two")
    return value


@lru_cache(maxsize=1)
def _tensor_types() -> dict[int, tuple[str, int, int]]:
    """Return name, elements a block and bytes a block of each ggml type, by its number."""
    from gguf.constants import GGML_QUANT_SIZES  # noqa: PLC0415  pulls in numpy: not for 'kylin-gguf --help'

    known = {int(kind): (kind.name, block, size) for kind, (block, size) in GGML_QUANT_SIZES.items()}
    # The pinned llama.cpp is newer than the gguf package (ggml/include/ggml.h, ggml/src/ggml-common.h).
    return {42: ("Q2_0", 64, 18), **known}


def _tensors(reader: Cursor, count: int, alignment: int) -> tuple[TensorInfo, ...]:
    """Read the tensor table and check that the tensors lie end to end, within the file."""
    relative: list[TensorInfo] = []
    names: set[str] = set()
    expected = 0
    for _ in range(count):
        tensor = _tensor(reader)
        if tensor.name in names:
            raise reader.refuse(f"the tensor '{tensor.name}' is given twice")
        if tensor.offset != expected:
            raise reader.refuse(f"the tensor '{tensor.name}' is at {tensor.offset}, not at {expected}")
        names.add(tensor.name)
        relative.append(tensor)
        expected = _padded(expected + tensor.nbytes, alignment)
    if not relative:
        return ()
    start = _padded(reader.position, alignment)
    reader.require(start + relative[-1].offset + relative[-1].nbytes)
    return tuple(TensorInfo(t.name, t.shape, t.type_name, t.nbytes, start + t.offset) for t in relative)


def _tensor(reader: Cursor) -> TensorInfo:
    """Read one entry of the tensor table; its offset is still relative to the data section."""
    name = reader.name(_MAX_TENSOR_NAME_BYTES, "a tensor name")
    dimensions = reader.number(U32)
    if dimensions > _MAX_DIMENSIONS:
        raise reader.refuse(f"the tensor '{name}' has {dimensions} dimensions")
    shape = tuple(reader.number(U64) for _ in range(dimensions))
    elements = math.prod(shape)
    if max(shape, default=0) > _INT64_MAX or elements > _INT64_MAX:
        raise reader.refuse(f"the tensor '{name}' has the impossible shape {shape}")
    code = reader.number(U32)
    if code not in _tensor_types():
        raise reader.refuse(f"the tensor '{name}' has the unknown type {code}")
    type_name, block, block_bytes = _tensor_types()[code]
    if (shape[0] if shape else 1) % block:
        raise reader.refuse(f"the rows of '{name}' are not whole {type_name} blocks of {block}")
    return TensorInfo(name, shape, type_name, elements // block * block_bytes, reader.number(U64))


def _padded(value: int, alignment: int) -> int:
    return -(-value // alignment) * alignment
