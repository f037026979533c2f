"""A checkpoint as an unquantised GGUF, written tensor by tensor in constant memory."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator
from itertools import chain
from math import prod
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type

from kylin_convert.arch.base import Family, OutputTensor
from kylin_convert.metadata import read_metadata
from kylin_convert.safetensors import Array, widen
from kylin_gguf.errors import BadCheckpoint
from kylin_gguf.records import Progress, ProgressCallback

FORMATS = {
    "F16": (Type.F16, gguf.LlamaFileType.MOSTLY_F16),
    "BF16": (Type.BF16, gguf.LlamaFileType.MOSTLY_BF16),
    "F32": (Type.F32, gguf.LlamaFileType.ALL_F32),
}
"""Unquantised formats: the type of matrices, and the number that ``general.file_type`` records."""

_PLAIN = {Type.F16: np.dtype("<f2"), Type.BF16: np.dtype("<u2"), Type.F32: np.dtype("<f4")}
"""What is written as it is stored."""

_EXPONENTS = {np.dtype("<f2"): np.uint16(0x7C00), np.dtype("<u2"): np.uint16(0x7F80)}
"""Bits that are all ones in values that are not finite: of F16, and of BF16 (see ``safetensors.widen``)."""

_BLOCK_ELEMENTS = 1 << 20
"""Elements converted at a time: few enough that all that is done to them happens in the processor's cache."""

_MATRICES = (".weight", ".lora_a", ".lora_b")
# Matrices that llama.cpp reads as F32 only: the router of experts, and what is added to BERT's embeddings.
_F32_NAMES = ("_norm.weight", ".ffn_gate_inp.weight", "position_embd.weight", "token_types.weight")


def tensor_type(tensor: OutputTensor, wanted: Type) -> Type:
    """Return the stored type of ``tensor``: vectors, norms and all but weights stay F32, as upstream's."""
    matrix = len(tensor.shape) > 1 and tensor.name.endswith(_MATRICES)
    return wanted if matrix and not tensor.name.endswith(_F32_NAMES) else Type.F32


def output_bytes(tensors: list[OutputTensor], form: str) -> int:
    """Return how many bytes the tensors take in ``form``, headers not counted."""
    return sum(_nbytes(tensor, tensor_type(tensor, FORMATS[form][0])) for tensor in tensors)


def _nbytes(tensor: OutputTensor, kind: Type) -> int:
    return prod(tensor.shape) * (4 if kind is Type.F32 else 2)


def write_gguf(family: Family, path: Path, form: str, progress: ProgressCallback) -> None:
    """Write ``family``'s checkpoint to ``path`` in a format of ``FORMATS``.

    The file appears whole or not at all, but it is not flushed to the disk. Keys and tensors are those of
    upstream's convert_hf_to_gguf.py.

    Raises:
        BadCheckpoint: a file of the checkpoint is malformed, or a weight is not finite in ``form``.
    """

    def describe(writer: gguf.GGUFWriter) -> None:
        writer.add_type(gguf.GGUFType.MODEL)
        counts = writer.get_total_parameter_count()
        read_metadata(family.checkpoint.folder, counts).set_gguf_meta_model(writer)
        family.write_parameters(writer, FORMATS[form][1])
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        family.vocabulary().write(writer)

    write_file(path, family.name, family.tensors(), form, describe, progress)


def write_file(  # noqa: PLR0913, PLR0917 - what a file consists of
    path: Path,
    architecture: str,
    tensors: list[OutputTensor],
    form: str,
    describe: Callable[[gguf.GGUFWriter], None],
    progress: ProgressCallback,
) -> None:
    """Write ``tensors`` to ``path`` in a format of ``FORMATS``; ``describe`` adds the keys.

    The file appears whole or not at all, but it is not flushed to the disk.

    Raises:
        BadCheckpoint: as ``write_gguf``.
    """
    wanted = FORMATS[form][0]
    partial = path.with_name(path.name + ".part")
    writer = gguf.GGUFWriter(partial, architecture)
    for tensor in tensors:
        kind = tensor_type(tensor, wanted)
        # The NumPy type only matters as "not bytes"; raw_dtype is what is recorded.
        writer.add_tensor_info(tensor.name, tensor.shape, np.dtype("f2"), _nbytes(tensor, kind), kind)
    describe(writer)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        _write_tensors(writer, tensors, wanted, progress)
        writer.close()
        partial.replace(path)
    finally:
        writer.close()
        partial.unlink(missing_ok=True)


def _write_tensors(
    writer: gguf.GGUFWriter, tensors: list[OutputTensor], wanted: Type, progress: ProgressCallback
) -> None:
    file = writer.fout[0]
    total = sum(_nbytes(tensor, tensor_type(tensor, wanted)) for tensor in tensors)
    done = 0
    writer.write_padding(file, file.tell())
    for tensor in tensors:
        kind = tensor_type(tensor, wanted)
        for block in chain.from_iterable(_blocks(piece()) for piece in tensor.pieces):
            converted = _convert(tensor.name, block, kind)
            file.write(converted.data)
            done += converted.nbytes
            progress(Progress("write", done, total))
        writer.write_padding(file, _nbytes(tensor, kind))


def _blocks(stored: Array) -> Iterator[Array]:
    flat = stored.reshape(-1)
    for start in range(0, flat.size, _BLOCK_ELEMENTS):
        yield flat[start : start + _BLOCK_ELEMENTS]
        if isinstance(stored.base, mmap.mmap):  # otherwise the largest tensor would be resident as a whole
            stored.base.madvise(mmap.MADV_DONTNEED)


def _convert(name: str, stored: Array, kind: Type) -> Array:
    if not _all_finite(stored):
        raise BadCheckpoint(name, "it holds values that are not finite numbers")
    if stored.dtype == _PLAIN[kind]:
        return stored
    values = widen(stored)
    if kind is Type.BF16:
        return np.ascontiguousarray(gguf.quants.quantize(values.astype(np.float32), kind))
    with np.errstate(over="ignore"):
        converted = values.astype(np.float32 if kind is Type.F32 else np.float16)
    if not _all_finite(converted):
        raise BadCheckpoint(name, "it holds values too large for F16; convert with --quant BF16")
    return np.ascontiguousarray(converted)


def _all_finite(stored: Array) -> bool:
    exponent = _EXPONENTS.get(stored.dtype)
    if exponent is None:
        return bool(np.isfinite(stored).all())
    # NumPy asks F16 one by one, and knows no BF16.
    return not ((stored.view(np.uint16) & exponent) == exponent).any()
