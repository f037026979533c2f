"""The checks a new file passes before anyone can see it: its structure, and that it predicts text."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from kylin_convert.calibration import Corpus
from kylin_convert.imatrix import ProgressParser, context_of
from kylin_convert.tools import Toolbox
from kylin_gguf.errors import VerificationFailed
from kylin_gguf.gguf_info import GgufInfo
from kylin_gguf.records import ProgressCallback

CONTEXT = 256
CHUNKS = 3

_ESTIMATE = re.compile(r"Final estimate: PPL = (\S+)")
_LAST_CHUNK = re.compile(r"\[\d+\]([^,\s]+),")


def check_structure(source: GgufInfo, result: GgufInfo, planned: Mapping[str, str]) -> None:
    """Compare ``result`` with what it was made from: same tensors, same shapes, types as ``planned``.

    Raises:
        VerificationFailed: they differ.
    """
    shapes = {tensor.name: tensor.shape for tensor in source.tensors}
    for tensor in result.tensors:
        if shapes.pop(tensor.name, None) != tensor.shape:
            raise VerificationFailed(f"tensor {tensor.name} is not as in the source")
        if tensor.type_name.casefold() != planned[tensor.name].casefold():
            wanted = planned[tensor.name]
            raise VerificationFailed(f"tensor {tensor.name} is {tensor.type_name}, not {wanted} as planned")
    if shapes:
        raise VerificationFailed(f"tensor {next(iter(shapes))} is missing")


def perplexity(
    toolbox: Toolbox, model: GgufInfo, corpus: Corpus, stage: str, progress: ProgressCallback
) -> float:
    """Load ``model``, run it over the start of ``corpus`` and return its perplexity there.

    Raises:
        ToolFailed: it does not load.
        VerificationFailed: its predictions are not numbers.
    """
    text = toolbox.directory / "held-out.txt"
    text.write_text(corpus.text, encoding="utf-8")
    context = str(context_of(model, CONTEXT))
    arguments = ["-m", str(model.path), "-f", text.name, "-c", context, "-b", context]
    arguments += ["--chunks", str(CHUNKS), "-t", str(toolbox.threads), "--no-escape"]
    try:
        output = toolbox.run("llama-perplexity", arguments, ProgressParser(stage, progress).feed)
    finally:
        text.unlink()
    # With a deviation of zero the tool prints no final estimate, only the running one.
    found = _ESTIMATE.findall(output) or _LAST_CHUNK.findall(output)
    value = float(found[-1]) if found else math.nan
    if not math.isfinite(value):
        raise VerificationFailed("the model computes no finite probabilities")
    return value
