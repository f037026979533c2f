"""torch's archives, written without torch."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from tests.tiny_checkpoint import Tensors

STORAGES = {"F32": "FloatStorage", "F16": "HalfStorage", "BF16": "BFloat16Storage", "I64": "LongStorage"}
_BYTES = {"F32": 4, "F16": 2, "BF16": 2, "I64": 8}


def value(content: Any) -> bytes:
    """Return the instructions that push plain data."""
    return pickle.dumps(content, 2)[2:-1]


def name(module: str, attribute: str) -> bytes:
    """Return the instruction that pushes something by its name."""
    return f"c{module}\n{attribute}\n".encode()


def rows_first(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the strides of a tensor whose rows follow one another."""
    return tuple(prod(shape[i + 1 :]) for i in range(len(shape)))


@dataclass(frozen=True)
class View:
    """A tensor: a view of the storage ``key``, which has ``count`` elements."""

    key: str
    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    start: int = 0
    count: int = 0

    def built(self) -> bytes:
        """Return the instructions that build it."""
        kind = value("storage") + name("torch", STORAGES[self.dtype])
        storage = b"(" + kind + value(self.key) + value("cpu") + value(self.count) + b"tQ"
        hooks = name("collections", "OrderedDict") + b")R"
        place = value(self.start) + value(self.shape) + value(self.strides) + value(False)
        return name("torch._utils", "_rebuild_tensor_v2") + b"(" + storage + place + hooks + b"tR"


def program(items: Iterable[tuple[str, bytes]]) -> bytes:
    """Return data.pkl: a dictionary of what the instructions build."""
    pairs = b"".join(value(key) + built for key, built in items)
    return b"\x80\x02" + name("collections", "OrderedDict") + b")R(" + pairs + b"u."


def archive(path: Path, instructions: bytes, storages: Mapping[str, bytes], **how: Any) -> None:
    """Write the archive."""
    with zipfile.ZipFile(path, "w", **how) as file:
        file.writestr("archive/data.pkl", instructions)
        for key, content in storages.items():
            file.writestr(f"archive/data/{key}", content)


def write(path: Path, tensors: Tensors) -> None:
    """Write ``tensors`` as torch would."""
    items, storages = [], {}
    for number, (key, (dtype, shape, data)) in enumerate(tensors.items()):
        storages[str(number)] = data
        count = len(data) // _BYTES[dtype]
        items.append((key, View(str(number), dtype, shape, rows_first(shape), count=count).built()))
    archive(path, program(items), storages)
