"""The importance matrix, measured by llama-imatrix."""

from __future__ import annotations

import re
from pathlib import Path

from kylin_convert.calibration import Corpus
from kylin_convert.tools import Toolbox
from kylin_gguf.gguf_info import GgufInfo
from kylin_gguf.records import Progress, ProgressCallback

CONTEXT = 512
"""Tokens a chunk; what upstream's own matrices are made with."""
MAX_CHUNKS = 16
"""Enough for every weight to meet text of both languages; under a minute for 135M weights on two cores."""

_TOTAL = re.compile(r"ing (?:perplexity )?over (\d+) chunks")
_DONE = re.compile(r"\[(\d+)\][\d.naif+-]+,")


class ProgressParser:
    """Turns the output of llama-imatrix or llama-perplexity into progress, in chunks."""

    def __init__(self, stage: str, progress: ProgressCallback) -> None:
        self._stage, self._progress = stage, progress
        self._seen = ""
        self._total = 0

    def feed(self, text: str) -> None:
        """Take the next piece of output, cut anywhere."""
        self._seen += text
        if not self._total:
            if not (found := _TOTAL.search(self._seen)):
                return
            self._total, self._seen = int(found[1]), self._seen[found.end() :]
            self._progress(Progress(self._stage, 0, self._total, "chunks"))
        end = 0
        for found in _DONE.finditer(self._seen):
            self._progress(Progress(self._stage, int(found[1]), self._total, "chunks"))
            end = found.end()
        self._seen = self._seen[end:]


def context_of(model: GgufInfo, wanted: int) -> int:
    """Return ``wanted`` tokens, or fewer where the model was trained on less."""
    return min(wanted, model.context_length) if model.context_length else wanted


def measure(
    toolbox: Toolbox, model: GgufInfo, corpus: Corpus, target: Path, progress: ProgressCallback
) -> None:
    """Run ``model`` over ``corpus`` and write the matrix to ``target``, in the toolbox's directory.

    Raises:
        ToolFailed: llama-imatrix cannot load the model, or the corpus is shorter than two chunks.
    """
    text, partial = target.with_suffix(".txt"), target.with_suffix(".part.gguf")
    text.write_text(corpus.text, encoding="utf-8")
    context = str(context_of(model, CONTEXT))
    arguments = ["-m", str(model.path), "-f", text.name, "-o", partial.name, "--output-format", "gguf"]
    arguments += ["-c", context, "-b", context, "--chunks", str(MAX_CHUNKS), "-t", str(toolbox.threads)]
    arguments += ["--parse-special", "--no-escape"]
    try:
        toolbox.run("llama-imatrix", arguments, ProgressParser("imatrix", progress).feed)
        partial.replace(target)
    finally:
        text.unlink()
        partial.unlink(missing_ok=True)
