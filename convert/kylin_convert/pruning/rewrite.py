"""A model without some of its blocks: their tensors are left out, the others are renumbered.

llama-quantize has ``--prune-layers``, which does the same to the tensors, but of the keys it changes only
``block_count`` (src/llama-quant.cpp): lists with a value for each block would be another model's.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import gguf
import numpy as np
from gguf import GGUFValueType as Kind

from kylin_convert.pruning.architectures import PER_BLOCK
from kylin_gguf import gguf_info
from kylin_gguf.errors import TruncatedGguf, UnsupportedModel
from kylin_gguf.gguf_info import GgufInfo, TensorInfo, shards
from kylin_gguf.records import Progress, ProgressCallback

BLOCKS, REMOVED = "kylin.pruning.block_count", "kylin.pruning.removed"
"""Ours: how many blocks the model had at first, and which of those are gone, counted from 0."""

_BLOCK = re.compile(r"^blk\.(\d+)\.")
_COPIED = 1 << 22


@dataclass(frozen=True)
class _Stored:
    """A tensor of the result, and where its bytes lie."""

    name: str
    tensor: TensorInfo
    path: Path


def pruned_bytes(model: GgufInfo, removed: Collection[int]) -> int:
    """Return the size of the tensors that ``write`` would write."""
    return sum(tensor.nbytes for tensor in model.tensors if _block(tensor.name) not in removed)


def write(model: GgufInfo, removed: Collection[int], target: Path, progress: ProgressCallback) -> None:
    """Write ``model`` without the blocks ``removed``; ``target`` appears whole or not at all.

    Raises:
        UnsupportedModel: it has a type of tensor or a text that the gguf package does not know.
    """
    kept = [block for block in range(model.layers) if block not in removed]
    stored = _stored(model, kept)
    partial = target.with_name(target.name + ".part")
    writer = gguf.GGUFWriter(partial, model.architecture)
    try:
        for one in stored:
            kind, shape = gguf.GGMLQuantizationType[one.tensor.type_name], one.tensor.shape[::-1]
            # The NumPy type only matters as "not bytes"; raw_dtype is what is recorded.
            writer.add_tensor_info(one.name, shape, np.dtype("f2"), one.tensor.nbytes, kind)
        _write_keys(writer, model, kept)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        _write_tensors(writer, stored, progress)
        writer.close()
        partial.replace(target)
    except (KeyError, UnicodeDecodeError) as error:
        raise UnsupportedModel(str(model.path), f"it cannot be written anew ({error})") from error
    finally:
        writer.close()
        partial.unlink(missing_ok=True)


def _block(name: str) -> int:
    found = _BLOCK.match(name)
    return int(found[1]) if found else -1


def _stored(model: GgufInfo, kept: Sequence[int]) -> list[_Stored]:
    """Return the tensors that stay, in their order, under their new names."""
    places = {old: new for new, old in enumerate(kept)} | {-1: -1}
    result = []
    for path in shards.files(model.path):
        for tensor in gguf_info.read(path).tensors:
            if (block := _block(tensor.name)) in places:
                name = _BLOCK.sub(f"blk.{places[block]}.", tensor.name)
                result.append(_Stored(name, tensor, path))
    return result


def _write_keys(writer: gguf.GGUFWriter, model: GgufInfo, kept: Sequence[int]) -> None:
    changed = _changed(model, kept)
    for name, field in gguf.GGUFReader(model.path).fields.items():
        # Those that begin so are the reader's own; alignment is the writer's, and the result is one file.
        if name.startswith(("GGUF.", "split.")) or name in {"general.alignment", "general.architecture"}:
            continue
        value = changed.pop(name, None)
        value = field.contents() if value is None else value
        if name == "general.size_label":
            value = gguf.size_label(*writer.get_total_parameter_count())
        if value == []:  # the writer has none of those, and to llama.cpp they are as if they were not there
            continue
        writer.add_key_value(name, value, field.types[0], field.types[-1])
    for name, value in changed.items():
        if isinstance(value, list):
            writer.add_key_value(name, value, Kind.ARRAY, Kind.UINT32)
        else:
            writer.add_key_value(name, value, Kind.FLOAT32 if isinstance(value, float) else Kind.UINT32)


def _changed(model: GgufInfo, kept: Sequence[int]) -> dict[str, Any]:
    """Return the keys that are otherwise in the result than in ``model``."""
    own = f"{model.architecture}."
    result: dict[str, Any] = {own + "block_count": len(kept), **_provenance(model, kept)}
    for key in PER_BLOCK:
        if isinstance(value := model.own(key), tuple):
            result[own + key] = [value[block] for block in kept]
    if isinstance(dense := model.own("leading_dense_block_count"), int):
        result[own + "leading_dense_block_count"] = sum(block < dense for block in kept)
    if model.architecture == "minicpm" and model.own("residual_scale") is None:
        # What llama.cpp makes of the number of blocks where a file is silent (src/models/minicpm.cpp).
        result[own + "residual_scale"] = 1.4 / math.sqrt(model.layers)
    return result


def _provenance(model: GgufInfo, kept: Sequence[int]) -> dict[str, Any]:
    """Return what became of the first model's blocks: this one may have lost some already."""
    before, gone = model.metadata.get(BLOCKS, model.layers), model.metadata.get(REMOVED, ())
    left = [block for block in range(_count(before)) if block not in _numbers(gone)]
    if len(left) != model.layers:
        raise UnsupportedModel(str(model.path), f"'{REMOVED}' contradicts its {model.layers} blocks")
    staying = {left[block] for block in kept}
    return {BLOCKS: before, REMOVED: [block for block in range(_count(before)) if block not in staying]}


def _count(value: object) -> int:
    return value if isinstance(value, int) and 0 < value <= 1 << 16 else 0


def _numbers(value: object) -> Mapping[object, None]:
    return dict.fromkeys(value) if isinstance(value, tuple) else {}


def _write_tensors(writer: gguf.GGUFWriter, stored: Sequence[_Stored], progress: ProgressCallback) -> None:
    file, done = writer.fout[0], 0
    total = sum(one.tensor.nbytes for one in stored)
    writer.write_padding(file, file.tell())
    for one in stored:
        with one.path.open("rb") as source:
            source.seek(one.tensor.offset)
            _copy(source, file, one.tensor.nbytes)
        done += one.tensor.nbytes
        writer.write_padding(file, one.tensor.nbytes)
        progress(Progress("prune", done, total))


def _copy(source: BinaryIO, target: BinaryIO, count: int) -> None:
    while count:
        block = source.read(min(count, _COPIED))
        if not block:
            raise TruncatedGguf(source.name, source.tell() + count, source.tell())
        target.write(block)
        count -= len(block)
