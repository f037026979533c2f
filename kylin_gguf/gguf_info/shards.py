"""A GGUF that is cut into several files, as large models are published.

They are called ``NAME-00001-of-0000N.gguf``, the first has the metadata, and llama.cpp, given the first,
opens the others (llama_split_path in include/llama.h, llama_model_loader in src/llama-model-loader.cpp).
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from kylin_gguf.errors import FileMissing, NotGguf
from kylin_gguf.gguf_info import header
from kylin_gguf.gguf_info.records import GgufInfo, TensorInfo

SUFFIX = re.compile(r"-(?P<number>\d{5})-of-(?P<count>\d{5})$")
"""The end of a file's name, less ``.gguf``."""


def files(path: Path) -> tuple[Path, ...]:
    """Return the files of the model that ``path``, any of them, belongs to, in order; most have one.

    Raises:
        FileMissing: one is missing.
    """
    found = SUFFIX.search(path.stem)
    if path.suffix != ".gguf" or not found:
        return (path,)
    count = int(found["count"])
    result = tuple(path.with_name(name) for name in names(path.stem[: found.start()], count))
    for part in result:
        if not part.is_file():
            raise FileMissing(str(part), f"it is one of the {count} files of a model")
    return result or (path,)


def names(stem: str, count: int) -> list[str]:
    """Return what the files of a model called ``stem`` are called when there are ``count`` of them."""
    return [f"{stem}-{number:05}-of-{count:05}.gguf" for number in range(1, count + 1)]


def read(path: Path) -> GgufInfo:
    """Return the model that ``path`` belongs to, with the tensors of all its files.

    Its path is the first file's, and the offset of a tensor counts from the start of the one it is in.

    Raises:
        FileMissing: a file cannot be read.
        NotGguf, TruncatedGguf: one is malformed, or they do not belong together.
    """
    paths = files(path)
    parts = [header.read(part) for part in paths]
    first = parts[0]
    if len(parts) == 1 and first.metadata.get("split.count", 1) == 1:
        return first
    tensors: dict[str, TensorInfo] = {}
    for number, part in enumerate(parts):
        if (part.metadata.get("split.no"), part.metadata.get("split.count")) != (number, len(parts)):
            reason = f"its metadata does not call it file {number + 1} of {len(parts)}, as its name does"
            raise NotGguf(str(part.path), reason)
        for tensor in part.tensors:
            if tensor.name in tensors:
                raise NotGguf(str(part.path), f"tensor {tensor.name} is in another file of the model, too")
            tensors[tensor.name] = tensor
    if first.metadata.get("split.tensors.count") != len(tensors):
        raise NotGguf(str(first.path), f"its files have {len(tensors)} tensors, and it speaks of others")
    return replace(
        first,
        file_size=sum(part.file_size for part in parts),
        parameters=sum(part.parameters for part in parts),
        tensors=tuple(tensors.values()),
    )
