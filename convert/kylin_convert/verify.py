"""The checks a new file passes before anyone can see it: structure, data, and how it predicts text."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import Any

import gguf
import numpy as np

from kylin_convert import calibration, divergence, reference
from kylin_convert.divergence import Sampling
from kylin_convert.imatrix import context_of
from kylin_convert.quality import Quality
from kylin_convert.tools import Toolbox
from kylin_gguf.errors import VerificationFailed
from kylin_gguf.gguf_info import GgufInfo, shards
from kylin_gguf.records import ProgressCallback

SAMPLING = Sampling(context=256, chunks=8)
"""On each held-out text. Enough to see a broken file and to place a sound one; ``compare`` goes further."""

_GENERATED = 64
_APART = 0.05
"""By how much the logarithms of a perplexity computed token by token and at once may differ: matrices are
multiplied in another order, with activations rounded to 8 bits."""
_BLOCK_ROWS = 1 << 10


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


def check_values(result: GgufInfo) -> None:
    """Read every tensor of ``result`` and look for values that are not finite.

    For models that compute no probabilities; with the others llama-perplexity does it on the way, and faster.

    Raises:
        VerificationFailed: there is one.
    """
    for tensor in chain.from_iterable(gguf.GGUFReader(path).tensors for path in shards.files(result.path)):
        rows = tensor.data.reshape(-1, tensor.data.shape[-1])
        for start in range(0, len(rows), _BLOCK_ROWS):
            values = gguf.quants.dequantize(rows[start : start + _BLOCK_ROWS], tensor.tensor_type)
            if not np.isfinite(values).all():
                raise VerificationFailed(f"tensor {tensor.name} holds values that are not finite")


def check_generation(toolbox: Toolbox, result: GgufInfo) -> None:
    """Have ``result`` read a text token by token, which is how it will generate, and at once: both agree.

    Raises:
        ToolFailed: it does not load.
        VerificationFailed: they do not.
    """
    context = context_of(result, _GENERATED)
    single, whole = divergence.decode_one_by_one(toolbox, result, calibration.held_out("en"), context)
    if not abs(single - whole) <= _APART:  # a nan is not
        raise VerificationFailed(
            f"it predicts otherwise token by token ({single:.3f}) than at once ({whole:.3f})"
        )


def check(toolbox: Toolbox, source: GgufInfo, result: GgufInfo, progress: ProgressCallback) -> dict[str, Any]:
    """Check what ``result`` computes, and return what ``measure`` does; nothing for an embedder.

    Raises:
        ToolFailed, VerificationFailed: as the checks above.
    """
    if not result.has_cache:  # it computes no probabilities
        check_values(result)
        return {}
    check_generation(toolbox, result)
    return measure(toolbox, source, result, progress)


def measure(
    toolbox: Toolbox, source: GgufInfo, result: GgufInfo, progress: ProgressCallback
) -> dict[str, Any]:
    """Measure ``result`` against ``source`` on the held-out texts.

    Returns:
        For each text its hash, how it was sampled, and the ``Quality`` of ``source`` and ``output``.

    Raises:
        ToolFailed: one does not load.
        VerificationFailed: its predictions are not numbers.
    """
    measured = {}
    sampling = SAMPLING.of(source)
    for language in calibration.LANGUAGES:
        corpus = calibration.held_out(language)
        with reference.opened(toolbox.settings, source, corpus, sampling, progress) as known:
            found = divergence.measure_against(
                toolbox, result, corpus, sampling, known.logits, progress=progress
            )
            measured[language] = _described(corpus.sha256, sampling, known.quality, found)
    return measured


def _described(sha256: str, sampling: Sampling, source: Quality, output: Quality) -> dict[str, Any]:
    return {
        "text_sha256": sha256,
        "context": sampling.context,
        "source": source.to_json(),
        "output": output.to_json(),
    }
