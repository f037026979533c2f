"""Quantisation by llama-quantize: which names it knows, what it would do, and doing it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gguf

from kylin_convert.tools import Toolbox
from kylin_gguf.errors import InvalidValue, ToolFailed, UnknownQuantisation, near
from kylin_gguf.gguf_info import GgufInfo
from kylin_gguf.records import Progress, ProgressCallback

TOOL = "llama-quantize"

_OPTION = re.compile(r"^ *\d+ +or +([A-Z0-9_]+) *: ", re.MULTILINE)
_TENSOR = re.compile(r"^\[ *(\d+)/ *(\d+)\] (\S+) +- \[[^]]*\], type = +(\S+), (.*)$", re.MULTILINE)
_PLANNED = re.compile(r"\((\w+)\)$")
_FALLBACK = re.compile(
    r"^warning: (\S+) +- ncols .* for type +(\w+)\) .*-> falling back to +(\w+)", re.MULTILINE
)
_UNQUANTISED = ("F32", "F16", "BF16")


_BUFFER_MIB = 256
"""Rows of a tensor that llama-quantize holds at a time; by itself it takes 8192, which is whole tensors."""
_NOT_STORED = {"Q8_1", "Q8_K", "I8", "I16", "I32", "I64", "F64"}
# The pinned llama.cpp has one more than the gguf package.
_TYPES = ({kind.name for kind in gguf.GGMLQuantizationType} | {"Q2_0"}) - _NOT_STORED


@dataclass(frozen=True)
class Recipe:
    """What to make of a model.

    ``name`` is a quantisation of llama.cpp's. ``tensor_types`` are pairs of a pattern and a type of ggml: the
    first regular expression that is found in a tensor's name counts. ``output_type`` and ``embedding_type``
    are of the output matrix and of the token embeddings, empty to leave them to the mix.
    """

    name: str
    tensor_types: tuple[tuple[str, str], ...] = ()
    output_type: str = ""
    embedding_type: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object."""
        return {**asdict(self), "tensor_types": dict(self.tensor_types)}


@dataclass(frozen=True)
class QuantisePlan:
    """Types by tensor name, as ggml spells them. ``fallbacks`` are the types that shapes forbade."""

    types: Mapping[str, str]
    fallbacks: Mapping[str, str]


def known_names(toolbox: Toolbox) -> tuple[str, ...]:
    """Return the quantisations that this build of llama.cpp has, aliases included."""
    text = toolbox.run(TOOL, ["--help"], accepted=(0, 1))  # asked for help, it helps and reports an error
    return tuple(dict.fromkeys(_OPTION.findall(text)))


def check_name(name: str, toolbox: Toolbox) -> str:
    """Return ``name`` as the tool spells it; letter case does not matter.

    Raises:
        UnknownQuantisation: the tool has no such type.
    """
    known = known_names(toolbox)
    if name.upper() not in known:
        raise UnknownQuantisation(name, near(name, known) or known)
    return name.upper()


def check_recipe(recipe: Recipe, toolbox: Toolbox, tensors: Sequence[str]) -> Recipe:
    """Return ``recipe`` with its names as the tool spells them.

    Raises:
        UnknownQuantisation: there is no such quantisation or type.
        InvalidValue: a pattern is malformed, or no name among ``tensors`` matches it.
    """
    pairs = []
    for pattern, kind in recipe.tensor_types:
        try:
            found = any(re.search(pattern, tensor) for tensor in tensors)
        except re.error as error:
            raise InvalidValue("--tensor-type", pattern, f"a regular expression ({error})") from error
        if not found:
            raise InvalidValue("--tensor-type", pattern, "a pattern that some tensor's name matches")
        pairs.append((pattern, _check_type(kind)))
    output, embedding = (kind and _check_type(kind) for kind in (recipe.output_type, recipe.embedding_type))
    return Recipe(check_name(recipe.name, toolbox), tuple(pairs), output, embedding)


def _check_type(name: str) -> str:
    if name.upper() not in _TYPES:
        raise UnknownQuantisation(name, near(name, sorted(_TYPES)) or tuple(sorted(_TYPES)))
    return name.upper()


def uses_imatrix(recipe: Recipe) -> bool:
    """Return whether ``recipe`` quantises by importance: plain floats and Q8_0 take no notice of a matrix."""
    names = {
        recipe.name,
        *(kind for _, kind in recipe.tensor_types),
        recipe.output_type,
        recipe.embedding_type,
    }
    return not names <= {*_UNQUANTISED, "Q8_0", ""}


def is_lossy(model: GgufInfo) -> bool:
    """Return whether ``model`` is already quantised."""
    return any(tensor.type_name.upper() not in _UNQUANTISED for tensor in model.tensors)


def plan(toolbox: Toolbox, source: GgufInfo, recipe: Recipe, imatrix: Path | None) -> QuantisePlan:
    """Ask the tool which type each tensor of ``source`` would get; nothing is written.

    Some mixes depend on whether there is an importance matrix.

    Raises:
        ToolFailed: it cannot quantise this model.
    """
    arguments = [*_flags(source, recipe, imatrix), "--dry-run", str(source.path), recipe.name]
    output = toolbox.run(TOOL, arguments)
    types = {}
    for _, _, tensor, kind, rest in _TENSOR.findall(output):
        planned = _PLANNED.search(rest.strip())
        types[tensor] = planned[1] if planned else kind
    if missing := {tensor.name for tensor in source.tensors} - types.keys():
        raise ToolFailed(TOOL, 0, f"it did not say what becomes of {sorted(missing)[0]}")
    return QuantisePlan(types, {tensor: wanted for tensor, wanted, _ in _FALLBACK.findall(output)})


def quantise(  # noqa: PLR0913 - one argument for each of the tool's
    toolbox: Toolbox,
    source: GgufInfo,
    target: Path,
    recipe: Recipe,
    *,
    imatrix: Path | None,
    progress: ProgressCallback,
) -> None:
    """Write ``source`` as ``recipe`` says to ``target``, which may be left half-written when this raises.

    Raises:
        ToolFailed: the tool failed.
    """

    def heard(text: str) -> None:
        for done, total, *_ in re.findall(r"^\[ *(\d+)/ *(\d+)\] ", text, re.MULTILINE):
            progress(Progress("quantise", int(done), int(total), "tensors"))

    arguments = [*_flags(source, recipe, imatrix), "--max-buffer-size", str(_BUFFER_MIB)]
    arguments += [str(source.path), str(target), recipe.name, str(toolbox.threads)]
    toolbox.run(TOOL, arguments, heard)


def _flags(source: GgufInfo, recipe: Recipe, imatrix: Path | None) -> list[str]:
    flags = ["--allow-requantize"] if is_lossy(source) else []
    for pattern, kind in recipe.tensor_types:
        flags += ["--tensor-type", f"{pattern}={kind}"]
    flags += ["--output-tensor-type", recipe.output_type] if recipe.output_type else []
    flags += ["--token-embedding-type", recipe.embedding_type] if recipe.embedding_type else []
    # Given by its name alone, in the toolbox's directory: the tool writes the name into the file.
    return flags + (["--imatrix", imatrix.name] if imatrix else [])
