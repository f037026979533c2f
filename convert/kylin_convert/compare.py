"""Several files of one model against a reference, on texts: the figures that choose between them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from kylin_convert import reference
from kylin_convert.calibration import Corpus
from kylin_convert.divergence import Sampling, measure_against
from kylin_convert.quality import Estimate, Quality, difference
from kylin_gguf.errors import UnsupportedModel
from kylin_gguf.gguf_info import GgufInfo
from kylin_gguf.records import ProgressCallback, Settings


@dataclass(frozen=True)
class Compared:
    """One model on one text.

    ``beside_first`` is its KL divergence less that of the first model that was given, over the same chunks:
    its standard error says whether the two differ, which those of each alone do not. None for the reference
    and the first.
    """

    model: GgufInfo
    quality: Quality
    is_reference: bool = False
    beside_first: Estimate | None = None

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object."""
        result = {
            "model": self.model.path.name,
            "bytes": self.model.file_size,
            "bits_per_weight": round(self.model.bits_per_weight, 3),
            "reference": self.is_reference,
            **self.quality.to_json(),
        }
        if self.beside_first:
            result["kl_divergence_beside_first"] = self.beside_first.to_json()
        return result


def check(known: GgufInfo, models: Sequence[GgufInfo]) -> None:
    """Refuse models that cannot be compared before anything is computed.

    Raises:
        UnsupportedModel: one computes no probabilities, or has another vocabulary than the reference.
    """
    for model in (known, *models):
        if not model.has_cache or model.pooling:
            raise UnsupportedModel(str(model.path), "it computes no probabilities of tokens")
        if _vocabulary(model) != _vocabulary(known):
            reason = f"its vocabulary is not that of {known.path.name}"
            raise UnsupportedModel(str(model.path), reason)


def _vocabulary(model: GgufInfo) -> tuple[str, str, int]:
    return model.tokenizer_model, model.tokenizer_pre, model.vocab_size


def compare(  # noqa: PLR0913, PLR0917 - what is compared with what, on what, how far, and who is told
    settings: Settings,
    known: GgufInfo,
    models: Sequence[GgufInfo],
    texts: Sequence[Corpus],
    sampling: Sampling,
    progress: ProgressCallback,
) -> Iterator[Compared]:
    """Yield the figures of ``known`` and of each of ``models`` on each text, as they are measured.

    Raises:
        UnsupportedModel: as ``check``, before anything is yielded.
        NoSpace, Busy, ToolFailed, VerificationFailed: as ``reference.opened`` and ``measure_against``.
    """
    check(known, models)
    for text in texts:
        with reference.opened(settings, known, text, sampling.of(known), progress) as opened:
            yield Compared(known, opened.quality, is_reference=True)
            first: Quality | None = None
            for model in models:
                quality = measure_against(
                    opened.toolbox, model, text, sampling.of(known), opened.logits, progress=progress
                )
                beside = difference(quality.divergences, first.divergences) if first else None
                yield Compared(model, quality, beside_first=beside)
                first = first or quality
