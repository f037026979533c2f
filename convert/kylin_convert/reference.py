"""What a reference model predicted on a text: computed once, kept for the next comparison.

The file is llama-perplexity's own: two bytes for each entry of the vocabulary and each token that is scored,
half of what the logits take. It is kept under the hash of all that it depends on.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from kylin_convert import work
from kylin_convert.calibration import Corpus
from kylin_convert.divergence import Sampling, measure_reference
from kylin_convert.quality import Quality
from kylin_convert.tools import Toolbox
from kylin_gguf.errors import VerificationFailed
from kylin_gguf.gguf_info import GgufInfo, shards
from kylin_gguf.records import ProgressCallback, Settings

_KEPT_BYTES = 4 << 30
_STALE_SECONDS = 7 * 24 * 3600


@dataclass(frozen=True)
class Reference:
    """Where the probabilities lie, and what was measured on the way. ``toolbox`` works in their directory."""

    logits: Path
    quality: Quality
    toolbox: Toolbox


@contextmanager
def opened(
    settings: Settings,
    model: GgufInfo,
    corpus: Corpus,
    sampling: Sampling,
    progress: ProgressCallback,
) -> Iterator[Reference]:
    """Have ``model``'s probabilities on ``corpus`` for the length of the block.

    Raises:
        Busy: another process is measuring the same.
        NoSpace: the cache would not hold them.
        ToolFailed, VerificationFailed: as ``measure_reference``.
    """
    root = settings.cache_dir / "logits"
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    inputs = {
        "model": [work.sha256_of(path) for path in shards.files(model.path)],
        "text": corpus.text,
        "sampling": asdict(sampling),
        "llama.cpp": Toolbox(settings, root).version(),
    }
    with work.locked_directory(root, work.key_of(inputs)) as directory:
        toolbox = Toolbox(settings, directory)
        logits, record = directory / "logits.bin", directory / "quality.json"
        if not record.is_file():
            quality = _measure(toolbox, model, corpus, sampling, logits, progress)
            work.write_atomically(record, json.dumps(asdict(quality)))
        record.touch()  # what was used last is pruned last
        kept = Quality.from_json(json.loads(record.read_text(encoding="utf-8")))
        yield Reference(logits, replace(kept, text=corpus.name), toolbox)
    prune(root)


def _measure(  # noqa: PLR0913, PLR0917 - as measure_reference
    toolbox: Toolbox,
    model: GgufInfo,
    corpus: Corpus,
    sampling: Sampling,
    logits: Path,
    progress: ProgressCallback,
) -> Quality:
    """Write the probabilities to ``logits``, whole or not at all, and return what was measured on the way."""
    needed = sampling.logits_bytes(model.vocab_size)
    work.require_space(logits.parent, needed)
    partial = logits.with_suffix(".part")
    try:
        with work.blaming_full_disk(partial, needed):
            quality = measure_reference(toolbox, model, corpus, sampling, partial, progress=progress)
            _check_size(partial, replace(sampling, chunks=len(quality.perplexities)), model)
        work.sync(partial)
        partial.replace(logits)
    finally:
        partial.unlink(missing_ok=True)
    return quality


def _check_size(logits: Path, sampling: Sampling, model: GgufInfo) -> None:
    # llama-perplexity does not look whether it could write.
    wanted, found = sampling.logits_bytes(model.vocab_size), logits.stat().st_size
    if found != wanted:
        raise VerificationFailed(f"llama-perplexity wrote {found} bytes of probabilities, not {wanted}")


def prune(root: Path) -> None:
    """Delete what was not used for a week, and the oldest of what takes more than 4 GiB together."""
    room = _KEPT_BYTES
    records = sorted(root.glob("*/quality.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    for record in records:
        room -= sum(path.stat().st_size for path in record.parent.iterdir())
        if room < 0 or time.time() - record.stat().st_mtime > _STALE_SECONDS:
            shutil.rmtree(record.parent, ignore_errors=True)
