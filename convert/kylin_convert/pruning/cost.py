"""What a model without some blocks predicts otherwise than the whole one, on the held-out texts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kylin_convert import calibration, divergence, reference, verify, work
from kylin_convert.calibration import Corpus
from kylin_convert.pruning import rewrite
from kylin_convert.quality import Quality
from kylin_convert.reference import Reference
from kylin_convert.tools import Toolbox
from kylin_gguf import gguf_info
from kylin_gguf.gguf_info import GgufInfo
from kylin_gguf.records import ProgressCallback


@dataclass(frozen=True)
class Cost:
    """What it is to lose the blocks ``removed``: the ``Quality`` of the ``whole`` model and ``without`` them,
    by text. ``bytes`` is the size of the tensors that stay, in the type they were measured in."""

    removed: tuple[int, ...]
    bytes: int
    whole: Mapping[str, Quality]
    without: Mapping[str, Quality]

    @property
    def divergence(self) -> float:
        """The mean KL divergence from the whole model, in nats, on the text where it is larger."""
        return max(quality.divergence.value for quality in self.without.values())

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object."""
        quality = {
            text: {"source": self.whole[text].to_json(), "output": found.to_json()}
            for text, found in self.without.items()
        }
        return {"removed": list(self.removed), "bytes": self.bytes, "quality": quality}


@dataclass(frozen=True)
class Meter:
    """Measures models without some blocks of ``model``; ``known`` is what it predicts on each text."""

    toolbox: Toolbox
    model: GgufInfo
    known: Mapping[str, tuple[Corpus, Reference]]
    progress: ProgressCallback

    def measure(self, removed: Sequence[int], scratch: Path) -> Cost:
        """Return what it costs to lose ``removed``; ``scratch`` is a file's name that is free.

        What was measured is kept.

        Raises:
            NoSpace, ToolFailed, UnsupportedModel, VerificationFailed: as the steps.
        """
        inputs = {"removed": removed, "model": [one.logits.parent.name for _, one in self.known.values()]}
        kept = self.toolbox.directory / f"pruned-{work.key_of(inputs)}.json"
        if not kept.is_file():
            found = {text: asdict(quality) for text, quality in self._measured(removed, scratch)}
            work.write_atomically(kept, json.dumps(found))
        without = json.loads(kept.read_text(encoding="utf-8"))
        return Cost(
            tuple(removed),
            rewrite.pruned_bytes(self.model, removed),
            {text: one.quality for text, (_, one) in self.known.items()},
            {text: Quality.from_json(value) for text, value in without.items()},
        )

    def _measured(self, removed: Sequence[int], scratch: Path) -> Iterator[tuple[str, Quality]]:
        sampling = verify.SAMPLING.of(self.model)
        try:
            with work.blaming_full_disk(scratch, rewrite.pruned_bytes(self.model, removed)):
                rewrite.write(self.model, removed, scratch, self.progress)
            pruned = gguf_info.read(scratch)
            for text, (corpus, one) in self.known.items():
                yield (
                    text,
                    divergence.measure_against(
                        one.toolbox, pruned, corpus, sampling, one.logits, progress=self.progress
                    ),
                )
        finally:
            scratch.unlink(missing_ok=True)


@contextmanager
def opened(toolbox: Toolbox, model: GgufInfo, progress: ProgressCallback) -> Iterator[Meter]:
    """Have a ``Meter`` for the length of the block; what ``model`` itself predicts is computed first.

    Raises:
        Busy, NoSpace, ToolFailed, VerificationFailed: as ``reference.opened``.
    """
    with ExitStack() as stack:
        known = {}
        for language in calibration.LANGUAGES:
            corpus = calibration.held_out(language)
            sampling = verify.SAMPLING.of(model)
            found = reference.opened(toolbox.settings, model, corpus, sampling, progress)
            known[language] = (corpus, stack.enter_context(found))
        yield Meter(toolbox, model, known, progress)
