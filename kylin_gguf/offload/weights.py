"""Which bytes of a model belong together: layers, their experts, what comes before and after them.

Where llama.cpp puts each tensor is decided by its layer (``llama_model_base::load_tensors``): the embeddings
always stay in RAM, the output goes with the last layer, and a file without an output matrix uses the
embeddings twice, in two places if need be. Which weights are repacked is in ``repack.cpp`` and depends on the
processor's instructions and on the weights' type and rows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from kylin_gguf.gguf_info import GgufInfo, TensorInfo

_LAYER = re.compile(r"blk\.(\d+)\.")
_EXPERTS = re.compile(r"_(?:ch)?exps\.")
_INPUTS = ("token_embd.", "token_types.", "position_embd.", "per_layer_token_embd.")
_EMBEDDING = "token_embd.weight"
_OUTPUT = "output.weight"
_ROWS = 8
"""Rows that a repacked block interleaves: a matrix with another number of rows stays as it is. Some of ARM's
kernels take four."""
_MATRIX, _STACK = 2, 3  # dimensions of a matrix, and of the experts' matrices in one tensor

_AVX2 = frozenset({"Q4_0", "Q4_K", "IQ4_NL", "MXFP4"})
_AVX512 = _AVX2 | {"Q2_K"}
_DOTPROD = frozenset({"Q4_0", "Q4_K", "Q5_K", "Q6_K", "Q8_0", "IQ4_NL", "MXFP4"})
_REPACKED: dict[str, frozenset[str]] = {
    **dict.fromkeys(("haswell", "alderlake"), _AVX2),
    **dict.fromkeys(("skylakex", "cannonlake", "cascadelake", "icelake", "cooperlake", "zen4"), _AVX512),
    **dict.fromkeys(("armv8.2_1", "armv8.2_2", "armv8.2_3", "armv8.6_1", "armv8.6_2"), _DOTPROD),
    **dict.fromkeys(("armv9.2_1", "armv9.2_2"), _DOTPROD),
    "riscv64_v_zvfh": frozenset({"Q4_0", "Q4_K", "Q2_K", "Q8_0", "IQ4_NL"}),
}
"""Types that each of llama.cpp's CPU plug-ins repacks (ggml_repack_get_optimal_repack_type). Others repack
nothing."""


@dataclass(frozen=True)
class Part:
    """Bytes of tensors that are placed together. ``repacked`` are those of them that get a copy."""

    size: int = 0
    repacked: int = 0

    def __add__(self, other: Part) -> Part:
        return Part(self.size + other.size, self.repacked + other.repacked)


@dataclass(frozen=True)
class Weights:
    """A model's tensors, in bytes.

    ``dense`` and ``experts`` have one entry a layer; ``output`` is the output matrix with its norm, a copy of
    the embeddings where ``tied``. ``largest`` is the largest tensor of a layer.
    """

    embeddings: Part
    dense: tuple[Part, ...]
    experts: tuple[Part, ...]
    output: Part
    tied: bool
    largest: int

    @property
    def has_experts(self) -> bool:
        """Whether a token uses only some of the weights."""
        return any(part.size for part in self.experts)


def weights(info: GgufInfo, processor: str = "") -> Weights:
    """Sort the tensors of ``info``. ``processor`` is llama.cpp's plug-in, such as ``cpu-haswell``."""
    repacked = _REPACKED.get(processor.removeprefix("cpu-"), frozenset())
    by_layer: dict[int, list[TensorInfo]] = {number: [] for number in range(info.layers)}
    outside: list[TensorInfo] = []
    for tensor in info.tensors:
        found = _LAYER.match(tensor.name)
        (by_layer.setdefault(int(found[1]), []) if found else outside).append(tensor)
    inputs = [tensor for tensor in outside if tensor.name.startswith(_INPUTS)]
    outputs = [tensor for tensor in outside if not tensor.name.startswith(_INPUTS)]
    tied = not any(tensor.name == _OUTPUT for tensor in outputs)
    if tied:
        outputs += [tensor for tensor in inputs if tensor.name == _EMBEDDING]
    layers = [tensors for _, tensors in sorted(by_layer.items())]
    return Weights(
        Part(sum(tensor.nbytes for tensor in inputs)),
        tuple(_part((t for t in tensors if not _EXPERTS.search(t.name)), repacked) for tensors in layers),
        tuple(_part((t for t in tensors if _EXPERTS.search(t.name)), repacked) for tensors in layers),
        _part(outputs, repacked),
        tied,
        max((tensor.nbytes for tensors in layers for tensor in tensors), default=0),
    )


def _part(tensors: Iterable[TensorInfo], repacked: frozenset[str]) -> Part:
    sizes = [(tensor.nbytes, tensor.nbytes if _is_repacked(tensor, repacked) else 0) for tensor in tensors]
    return Part(sum(size for size, _ in sizes), sum(copy for _, copy in sizes))


def _is_repacked(tensor: TensorInfo, types: frozenset[str]) -> bool:
    """Return whether llama.cpp repacks it: a matrix, or the experts' matrices, of a type and shape that a
    kernel takes."""
    if tensor.type_name not in types or len(tensor.shape) < _MATRIX:
        return False
    is_stack = len(tensor.shape) == _STACK and tensor.shape[_STACK - 1] > 1
    return tensor.shape[1] % _ROWS == 0 and (not is_stack or bool(_EXPERTS.search(tensor.name)))
