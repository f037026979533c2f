"""Quantisation by llama-quantize: which names it knows, what it would do, and doing it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kylin_convert.tools import Toolbox
from kylin_gguf.errors import ToolFailed, UnknownQuantisation, near
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


def uses_imatrix(name: str) -> bool:
    """Return whether ``name`` quantises by importance: plain floats and Q8_0 take no notice of a matrix."""
    return name not in (*_UNQUANTISED, "Q8_0")


def is_lossy(model: GgufInfo) -> bool:
    """Return whether ``model`` is already quantised."""
    return any(tensor.type_name.upper() not in _UNQUANTISED for tensor in model.tensors)


def plan(toolbox: Toolbox, source: GgufInfo, name: str) -> QuantisePlan:
    """Ask the tool which type each tensor of ``source`` would get; nothing is written.

    Raises:
        ToolFailed: it cannot quantise this model.
    """
    output = toolbox.run(TOOL, [*_flags(source), "--dry-run", str(source.path), name, str(toolbox.threads)])
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
    name: str,
    *,
    imatrix: Path | None,
    progress: ProgressCallback,
) -> None:
    """Write ``source`` as ``name`` to ``target``, which may be left half-written when this raises.

    Raises:
        ToolFailed: the tool failed.
    """

    def heard(text: str) -> None:
        for done, total, *_ in re.findall(r"^\[ *(\d+)/ *(\d+)\] ", text, re.MULTILINE):
            progress(Progress("quantise", int(done), int(total), "tensors"))

    weights = ["--imatrix", imatrix.name] if imatrix else []
    arguments = [*_flags(source), *weights, str(source.path), str(target), name, str(toolbox.threads)]
    toolbox.run(TOOL, arguments, heard)


def _flags(source: GgufInfo) -> list[str]:
    return ["--allow-requantize"] if is_lossy(source) else []
