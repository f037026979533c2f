"""An importance matrix in llama.cpp's GGUF form: whether it is one, and of this model.

For each weight ``NAME`` it holds ``NAME.in_sum2``, the sums of squared activations of each column, and
``NAME.counts``, how many tokens were summed; one row for each expert where there are several
(tools/imatrix/imatrix.cpp). llama-quantize takes a file that is not GGUF for its older format and reads
whatever it finds, and goes on without the entries that it misses: so both are checked here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from kylin_convert.safetensors import Array
from kylin_gguf import gguf_info
from kylin_gguf.errors import BadMatrix, NotGguf
from kylin_gguf.gguf_info import GgufInfo, TensorInfo

_SUMS, _COUNTS = ".in_sum2", ".counts"
_CHUNKS = "imatrix.chunk_count"
_FILLED = "kylin.experts_filled"
"""Ours: how many experts have the mean of others, with a count of 1."""
_BLOCK = re.compile(r"^blk\.(\d+)\.")


@dataclass(frozen=True)
class Coverage:
    """How well the text met the experts: how many there are in all layers, and how many met no token.

    ``fewest`` is the least number of tokens that an expert met, among those that met one.
    """

    experts: int
    unseen: int
    fewest: int

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object."""
        return asdict(self)


@dataclass(frozen=True)
class Matrix:
    """A matrix that fits its model. ``coverage`` is None for a model without experts."""

    path: Path
    chunks: int
    entries: int
    coverage: Coverage | None


def check(path: Path, model: GgufInfo) -> Matrix:
    """Read the matrix at ``path`` and hold it against ``model``.

    Raises:
        FileMissing, TruncatedGguf: it cannot be read.
        BadMatrix: it is no importance matrix, of another model, or of another size.
    """
    try:
        info = gguf_info.read(path)
    except NotGguf as error:
        raise BadMatrix(str(path), "it is not in GGUF form; llama-imatrix converts the older one") from error
    if info.kind != "imatrix":
        raise BadMatrix(str(path), f"it holds no importance matrix but a {info.kind or 'file'}")
    entries = _entries(path)
    tensors = {tensor.name: tensor for tensor in model.tensors}
    for name, (sums, counts) in entries.items():
        if name not in tensors:
            raise BadMatrix(str(path), f"the model has no tensor {name}")
        _check_entry(path, tensors[name], sums, counts)
    if absent := _blocks(tensors) - _blocks(entries):
        raise BadMatrix(str(path), f"it says nothing of layer {min(absent)}")
    chunks, filled = (info.metadata.get(key) for key in (_CHUNKS, _FILLED))
    coverage = _coverage(entries, filled if isinstance(filled, int) else 0)
    return Matrix(path, chunks if isinstance(chunks, int) else 0, len(entries), coverage)


def fill_unseen(path: Path, target: Path) -> None:
    """Copy a matrix that ``check`` has passed; an expert that met no token gets the mean of those that did.

    llama-quantize would weigh all its columns alike. What the other experts of the layer met is nearer to
    what it will: their input is the same. The copy says how many there were.
    """
    reader, entries = gguf.GGUFReader(path), _entries(path)
    before = int(reader.fields[_FILLED].contents()) if _FILLED in reader.fields else 0
    coverage = _coverage(entries, before)
    writer = gguf.GGUFWriter(target, "")
    writer.kv_data[0].clear()  # general.architecture: a matrix has none
    writer.add_type("imatrix")
    if coverage:
        writer.add_uint32(_FILLED, coverage.unseen)
    for key in (_CHUNKS, "imatrix.chunk_size"):
        writer.add_uint32(key, int(reader.fields[key].contents()))
    writer.add_array("imatrix.datasets", list(reader.fields["imatrix.datasets"].contents()))
    for name, (sums, counts) in entries.items():
        seen = counts > 0
        filled, counted = sums.copy(), counts.copy()
        if seen.any() and not seen.all():
            filled[~seen] = sums[seen].sum(axis=0) / counts[seen].sum()
            counted[~seen] = 1
        writer.add_tensor(name + _SUMS, filled)
        writer.add_tensor(name + _COUNTS, counted.reshape(-1, 1))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _entries(path: Path) -> dict[str, tuple[Array, Array]]:
    """Return sums (experts x columns) and counts (experts) by the weight's name, sorted."""
    parts = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    result = {}
    for name in sorted(parts):
        if not name.endswith(_SUMS):
            continue
        weight = name.removesuffix(_SUMS)
        sums, counts = parts[name], parts.get(weight + _COUNTS)
        if counts is None or {sums.tensor_type, counts.tensor_type} != {gguf.GGMLQuantizationType.F32}:
            raise BadMatrix(str(path), f"the entry of {weight} is malformed")
        experts = counts.data.size
        if not experts or sums.data.size % experts:
            raise BadMatrix(str(path), f"the entry of {weight} is malformed")
        result[weight] = (sums.data.reshape(experts, -1), counts.data.reshape(-1))
    if not result:
        raise BadMatrix(str(path), "it is empty")
    return result


def _check_entry(path: Path, tensor: TensorInfo, sums: Array, counts: Array) -> None:
    experts = tensor.shape[2] if len(tensor.shape) > 2 else 1  # noqa: PLR2004 - columns, rows, experts
    if sums.size != tensor.shape[0] * experts or counts.size not in (1, experts):
        wanted = f"{experts} x {tensor.shape[0]}" if experts > 1 else str(tensor.shape[0])
        raise BadMatrix(str(path), f"it has {sums.size} values for {tensor.name}, which takes {wanted}")
    if not (np.isfinite(sums).all() and np.isfinite(counts).all()):
        raise BadMatrix(str(path), f"its values for {tensor.name} are not finite")
    if (sums < 0).any() or (counts < 0).any() or not counts.any():
        raise BadMatrix(str(path), f"its values for {tensor.name} are no sums of squares over any tokens")


def _blocks(names: Mapping[str, object]) -> set[int]:
    return {int(found[1]) for name in names if (found := _BLOCK.match(name))}


def _coverage(entries: Mapping[str, tuple[Array, Array]], filled: int) -> Coverage | None:
    # The router sends a token to the same experts for all of their weights: one of a layer's will do.
    layers = {}
    for name, (_, counts) in entries.items():
        if counts.size > 1 and (found := _BLOCK.match(name)):
            layers[found[1]] = counts
    if not layers:
        return None
    counts = np.sort(np.concatenate(list(layers.values())))
    unseen = int((counts == 0).sum()) + filled
    seen = counts[unseen:]
    return Coverage(counts.size, unseen, int(seen[0]) if seen.size else 0)
