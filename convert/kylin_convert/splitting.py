"""A finished GGUF, cut into several files as llama-gguf-split does it (tools/gguf-split in llama.cpp).

Metadata and tensors are copied as bytes: the files are llama-gguf-split's, to the last one.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

import gguf

from kylin_gguf.errors import InvalidValue
from kylin_gguf.gguf_info import GgufInfo, TensorInfo, shards
from kylin_gguf.records import Progress, ProgressCallback

MAX_FILES = 0xFFFF
"""What ``split.count`` can hold."""

_SIZE = re.compile(r"([1-9]\d{0,5})([MG])", re.IGNORECASE)
_UNITS = {"M": 10**6, "G": 10**9}
_HEADER = struct.Struct("<4sIQQ")  # magic, version, number of tensors, number of keys
_BLOCK_BYTES = 1 << 22


@dataclass(frozen=True)
class Limit:
    """What goes into one file: ``size`` bytes of tensors at most, or so many ``tensors``; the other is 0.

    A tensor of more bytes than that has a file of its own.
    """

    size: int = 0
    tensors: int = 0

    @classmethod
    def parse(cls, size: str, tensors: int) -> Limit | None:
        """Return what ``--split-max-size`` and ``--split-max-tensors`` say; None where neither is given.

        Raises:
            InvalidValue: both are given, or one is no limit.
        """
        if size and tensors:
            raise InvalidValue("--split-max-size", size, "left out where --split-max-tensors is given")
        if tensors:
            return cls(tensors=tensors)
        if not size:
            return None
        if not (found := _SIZE.fullmatch(size)):
            raise InvalidValue(
                "--split-max-size", size, "a number of megabytes or gigabytes, such as 500M or 2G"
            )
        return cls(size=int(found[1]) * _UNITS[found[2].upper()])


def cut(model: GgufInfo, limit: Limit, progress: ProgressCallback) -> GgufInfo:
    """Cut ``model``, a file, and return it as ``shards.read`` does; as it is where one file holds it.

    The files lie beside it, named after the whole of its name. It is deleted when they are written.

    Raises:
        InvalidValue: there would be more files than can be numbered.
        OSError: they cannot be written; what is written by then stays.
    """
    groups = _groups(model, limit)
    count = len(groups)
    if count == 1:
        return model
    if count > MAX_FILES:
        raise InvalidValue("--split-max-size", str(limit.size), f"a limit with which {MAX_FILES} files do")
    whole = gguf.GGUFReader(model.path)
    paths = [model.path.with_name(name) for name in shards.names(model.path.name, count)]
    done = 0
    for path, number in zip(paths, range(count), strict=True):
        part = _Part(whole, groups[number], number, count)
        with model.path.open("rb") as source, path.open("wb") as target:
            target.write(part.head())
            for tensor in part.tensors:
                _copy(source, target, tensor)
                target.write(part.padding(tensor.nbytes))
                done += tensor.nbytes
                progress(Progress("split", done, model.tensor_bytes))
    model.path.unlink()
    return shards.read(paths[0])


def _groups(model: GgufInfo, limit: Limit) -> list[list[TensorInfo]]:
    groups: list[list[TensorInfo]] = [[]]
    size = 0
    for tensor in model.tensors:
        taken = tensor.nbytes + -tensor.nbytes % gguf.GGUF_DEFAULT_ALIGNMENT
        full = len(groups[-1]) == limit.tensors if limit.tensors else size + taken > limit.size
        if full and groups[-1]:
            groups.append([])
            size = 0
        groups[-1].append(tensor)
        size += taken
    return groups


@dataclass(frozen=True)
class _Part:
    """File ``number``, from 0, of ``count``: the first has the keys of the ``whole`` model, too."""

    whole: gguf.GGUFReader
    tensors: Sequence[TensorInfo]
    number: int
    count: int

    def padding(self, size: int) -> bytes:
        """Return what follows ``size`` bytes up to where a tensor may begin."""
        alignment = gguf.GGUF_DEFAULT_ALIGNMENT if self.number else int(self.whole.alignment)
        return bytes(-size % alignment)

    def head(self) -> bytes:
        """Return all that is before the tensors."""
        known, inherited = b"", 0
        if self.number == 0:
            known = self.whole.data[_HEADER.size : self.whole.tensors[0].field.offset].tobytes()
            inherited = int(self.whole.fields["GGUF.kv_count"].contents())
        own = self._keys()
        parts = [
            _HEADER.pack(b"GGUF", gguf.GGUF_VERSION, len(self.tensors), inherited + len(own)),
            known,
            *own,
        ]
        entries = {entry.name: entry.field for entry in self.whole.tensors}
        offset = 0
        for tensor in self.tensors:
            # All but the last field, which is where the tensor begins.
            parts += [part.tobytes() for part in entries[tensor.name].parts[:-1]]
            parts.append(struct.pack("<Q", offset))
            offset += tensor.nbytes + len(self.padding(tensor.nbytes))
        head = b"".join(parts)
        return head + self.padding(len(head))

    def _keys(self) -> list[bytes]:
        """Return the keys that say which file it is."""
        names, kinds = gguf.Keys.Split, gguf.GGUFValueType
        return [
            _pair(names.LLM_KV_SPLIT_NO, kinds.UINT16, struct.pack("<H", self.number)),
            _pair(names.LLM_KV_SPLIT_TENSORS_COUNT, kinds.INT32, struct.pack("<i", len(self.whole.tensors))),
            _pair(names.LLM_KV_SPLIT_COUNT, kinds.UINT16, struct.pack("<H", self.count)),
        ]


def _pair(key: str, kind: gguf.GGUFValueType, value: bytes) -> bytes:
    return struct.pack("<Q", len(key)) + key.encode() + struct.pack("<I", kind) + value


def _copy(source: BinaryIO, target: BinaryIO, tensor: TensorInfo) -> None:
    source.seek(tensor.offset)
    left = tensor.nbytes
    while left:
        block = source.read(min(left, _BLOCK_BYTES))
        target.write(block)
        left -= len(block)
