"""What a conversion will do, worked out before anything is written."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kylin_convert import calibration, estimate, processor, verify
from kylin_convert.quantise import Recipe, is_lossy, uses_imatrix
from kylin_convert.source import Source
from kylin_convert.writer import FORMATS
from kylin_gguf.gguf_info import has_cache
from kylin_gguf.translation import N_, translate

_IMATRIX_SHARE = 0.01
"""Size of an importance matrix beside the model: one float for each column of each matrix."""
_BITS_SLACK = 2.5
"""What a file may take over the bits in its type's name: block scales, tensors kept more precise."""

_LOSSY = N_(
    "{source} is already quantised ({kind}): {quantisation} is made from what that left, and what it lost "
    "does not come back. Convert the original checkpoint for the best result."
)


@dataclass(frozen=True)
class Plan:
    """The steps and what they need. Sizes in bytes; ``output_bytes`` is an upper estimate until quantised.

    ``form`` is the intermediate's format, empty where a GGUF is the source. ``memory_bytes`` includes what is
    mapped of files. ``parameters`` are the model's weights.
    """

    source: str
    kind: str
    output: Path
    recipe: Recipe
    form: str
    steps: tuple[str, ...]
    source_bytes: int
    work_bytes: int
    output_bytes: int
    memory_bytes: int
    parameters: int
    notices: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object."""
        return {**asdict(self), "output": str(self.output), "recipe": self.recipe.to_json()}


def make_plan(
    source: Source, output: Path, recipe: Recipe, *, cuts: bool = False, prunes: bool = False
) -> Plan:
    """Work out the plan for ``recipe``, which ``quantise.check_recipe`` has passed.

    A result that is cut into several files needs its room twice, and a model that loses blocks is beside the
    whole one.
    """
    quantisation = recipe.name
    form = "" if source.model else quantisation if quantisation in FORMATS else _intermediate(source)
    unquantised = source.unquantised_bytes(form) if form else source.size
    ready = quantisation == form and recipe == Recipe(form)
    steps = [*(["write"] if form else []), *(["prune"] if prunes else [])]
    steps += ["imatrix"] if uses_imatrix(recipe) and _generates(source) else []
    steps += ["place" if ready else "quantise", *(["split"] if cuts else []), "verify"]
    vocabulary = _vocabulary(source)
    work = (0 if ready or not form else unquantised) + int(unquantised * _IMATRIX_SHARE)
    if prunes:
        work += unquantised * (2 if ready else 1)
    if _generates(source):
        work += len(calibration.LANGUAGES) * verify.SAMPLING.logits_bytes(vocabulary)
    parameters = _parameters(source)
    return Plan(
        source=source.name,
        kind=source.kind,
        output=output,
        recipe=recipe,
        form=form,
        steps=tuple(steps),
        source_bytes=source.size,
        work_bytes=work,
        output_bytes=(unquantised if ready else _estimate(parameters, quantisation)) * (2 if cuts else 1),
        memory_bytes=estimate.memory(unquantised, vocabulary),
        parameters=parameters,
        notices=_notices(source, quantisation),
    )


def _intermediate(source: Source) -> str:
    # What is stored as BF16 stays as it is: nothing is rounded, no value is too large, nothing is converted.
    return "BF16" if source.is_bf16 and processor.multiplies_bf16() else "F16"


def _generates(source: Source) -> bool:
    return has_cache(
        source.family.name if source.family else source.model.architecture if source.model else ""
    )


def _vocabulary(source: Source) -> int:
    if source.model:
        return source.model.vocab_size
    # Rows of the token embeddings, in NumPy's order.
    shapes = (
        [tensor.shape for tensor in source.family.tensors() if tensor.name.startswith("token_embd.")]
        if source.family
        else []
    )
    return shapes[0][0] if shapes else 0


def _parameters(source: Source) -> int:
    # An F32 intermediate has four bytes for each weight, whatever its type in the checkpoint.
    return source.model.parameters if source.model else source.unquantised_bytes("F32") // 4


def _estimate(parameters: int, quantisation: str) -> int:
    if quantisation in FORMATS:
        return parameters * (4 if quantisation == "F32" else 2)
    bits = next(int(char) for char in quantisation if char.isdigit())
    return int(parameters * (bits + _BITS_SLACK) / 8)


def _notices(source: Source, quantisation: str) -> tuple[str, ...]:
    if source.model is None or not is_lossy(source.model):
        return ()
    kind = source.model.file_type or "quantised"
    return (translate(_LOSSY).format(source=source.name, kind=kind, quantisation=quantisation),)
