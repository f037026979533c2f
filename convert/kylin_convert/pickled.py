"""The tensors of ``pytorch_model.bin``, found without running what is in it.

torch's files since 1.6 are zip archives: ``data.pkl`` says which storages the tensors are views of, the
storages lie beside it uncompressed (torch/serialization.py). A pickle is a program; this reader lets it name
the handful of things that tensors are made of, all of which stand for something of ours, and nothing else. It
is Python's own unpickler in Python, not in C: the latter sizes a table by a number from the file.
"""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

from kylin_convert.safetensors import ELEMENT_BYTES, MAX_HEADER, StoredTensor
from kylin_gguf.errors import BadCheckpoint, FileMissing

_STORAGES = {
    "DoubleStorage": "F64",
    "FloatStorage": "F32",
    "HalfStorage": "F16",
    "BFloat16Storage": "BF16",
    "LongStorage": "I64",
    "IntStorage": "I32",
    "ShortStorage": "I16",
    "CharStorage": "I8",
    "ByteStorage": "U8",
    "BoolStorage": "BOOL",
}
# The local header of a file in a zip archive (APPNOTE.TXT, 4.3.7): its name and an extra field follow.
_LOCAL_HEADER = struct.Struct("<4s5H3L2H")
_LOCAL_MAGIC = b"PK\x03\x04"


@dataclass(frozen=True)
class _Storage:
    """A run of ``count`` elements at ``offset`` of the file."""

    dtype: str
    offset: int
    count: int


def read_tensors(path: Path) -> dict[str, StoredTensor]:
    """Return the tensors of ``path`` by name, each within the file's bounds.

    Raises:
        FileMissing: the file cannot be read.
        BadCheckpoint: it is not such an archive, names what is no tensor, or a tensor is not in its storage.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _named(path, _Archive(path, archive).load())
    except OSError as error:
        raise FileMissing(str(path), error.strerror or str(error)) from error
    # RuntimeError: encrypted; NotImplementedError: a compression this Python lacks.
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        raise BadCheckpoint(str(path), "it is not a file of torch 1.6 or later") from error


def _named(path: Path, content: Any) -> dict[str, StoredTensor]:
    if not isinstance(content, dict) or not all(
        isinstance(name, str) and isinstance(tensor, StoredTensor) for name, tensor in content.items()
    ):
        raise BadCheckpoint(str(path), "it holds something else than tensors by name")
    return {name: replace(tensor, name=name) for name, tensor in content.items()}


class _Archive:
    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self._path = path
        self._archive = archive
        self._size = path.stat().st_size
        self._entries = {info.filename: info for info in archive.infolist()}
        program = next((name for name in self._entries if name.endswith("/data.pkl")), None)
        if program is None or self._entries[program].file_size > MAX_HEADER:
            raise BadCheckpoint(str(path), "it has no list of tensors, or a far too long one")
        self._program = program
        self._prefix = program.removesuffix("data.pkl")
        if self._entries.get(f"{self._prefix}byteorder") and self._read("byteorder") != b"little":
            raise BadCheckpoint(str(path), "its numbers are big-endian")

    def _read(self, name: str) -> bytes:
        return self._archive.read(self._prefix + name)

    def load(self) -> Any:
        """Return what the pickle builds."""
        program = _Unpickler(io.BytesIO(self._archive.read(self._program)), self._path, self.storage)
        try:
            return program.load()
        except BadCheckpoint:
            raise
        except Exception as error:  # a damaged program fails in as many ways as it has instructions
            reason = f"its list of tensors is damaged ({type(error).__name__}: {error})"
            raise BadCheckpoint(str(self._path), " ".join(reason.split())) from error

    def storage(self, dtype: str, key: str, count: int) -> _Storage:
        """Return where the storage ``key`` lies."""
        info = self._entries.get(f"{self._prefix}data/{key}")
        nbytes = count * ELEMENT_BYTES[dtype]
        if info is None or info.compress_type != zipfile.ZIP_STORED or info.file_size < nbytes:
            raise BadCheckpoint(str(self._path), f"storage {key} is missing, compressed or too short")
        with self._path.open("rb") as file:
            file.seek(info.header_offset)
            header = file.read(_LOCAL_HEADER.size)
        if len(header) < _LOCAL_HEADER.size or not header.startswith(_LOCAL_MAGIC):
            raise BadCheckpoint(str(self._path), f"storage {key} is not where the archive says")
        *_, name_length, extra_length = _LOCAL_HEADER.unpack(header)
        offset = info.header_offset + _LOCAL_HEADER.size + name_length + extra_length
        if offset + nbytes > self._size:
            raise BadCheckpoint(str(self._path), f"it is truncated: storage {key} ends beyond it")
        return _Storage(dtype, offset, count)


class _Unpickler(pickle._Unpickler):
    def __init__(self, program: io.BytesIO, path: Path, storage: Callable[[str, str, int], _Storage]) -> None:
        super().__init__(program)
        self._path = path
        self._storage = storage

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return self._tensor
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return lambda data, *_: data
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        raise BadCheckpoint(str(self._path), f"it wants {module}.{name}, which is no tensor and is not run")

    def persistent_load(self, pid: Any) -> _Storage:
        match pid:
            case ("storage", str(dtype), str(key), _, int(count)) if dtype in ELEMENT_BYTES and count >= 0:
                return self._storage(dtype, key, count)
            case _:
                raise BadCheckpoint(str(self._path), "it refers to something that is no storage")

    def _tensor(self, storage: Any, start: Any, shape: Any, strides: Any, *_: Any) -> StoredTensor:
        numbers = [start, *shape, *strides]
        if not isinstance(storage, _Storage) or not all(type(n) is int and n >= 0 for n in numbers):
            raise BadCheckpoint(str(self._path), "a tensor's place in its storage is malformed")
        count = prod(shape)
        expected = tuple(prod(shape[i + 1 :]) for i in range(len(shape)))
        if any(n > 1 and stride != e for n, stride, e in zip(shape, strides, expected, strict=True)):
            raise BadCheckpoint(str(self._path), "a tensor's rows do not follow one another")
        if start + count > storage.count:
            raise BadCheckpoint(str(self._path), "a tensor lies outside its storage")
        size = ELEMENT_BYTES[storage.dtype]
        return StoredTensor(
            self._path, "", storage.dtype, tuple(shape), storage.offset + start * size, count * size
        )
