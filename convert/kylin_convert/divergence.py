"""How far a model's predictions are from those of the file it was made from: llama-perplexity, read closely.

Upstream's tool and not a loop of our own over the low-level API: published figures are made with it, it keeps
a reference's probabilities in two bytes each, and a model that it cannot load takes no process of ours along.

Its own error bars take tokens as independent, which neighbours in one text are not. It prints a running mean
after each chunk, so the mean of each chunk can be had back, and errors here are over chunks. What its
rounding to five decimals does to that is below 3e-5 for a hundred chunks.

It may also end before its last line is printed: nothing flushes llama.cpp's logger at exit (common_log_main
in common/log.cpp says so). So it is given one chunk more than is wanted, and the last is never looked at.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from kylin_convert.calibration import Corpus
from kylin_convert.imatrix import context_of
from kylin_convert.quality import Quality
from kylin_convert.tools import Toolbox
from kylin_gguf.errors import VerificationFailed
from kylin_gguf.gguf_info import GgufInfo
from kylin_gguf.records import Progress, ProgressCallback

TOOL = "llama-perplexity"

_HEADER_BYTES = 20  # "_logits_", context, vocabulary, chunks
_PAIR = r" +(\S+) ± +\S+"
# chunk, perplexity, logarithm of its ratio, KL divergence, RMS of p's difference (%), same top token (%)
_ROW = re.compile(rf"^ *(\d+){_PAIR * 4} %{_PAIR} %", re.MULTILINE)
_TOO_SHORT = "you need at least"
_TOTAL = re.compile(r"over (\d+) chunks")
_DONE = re.compile(r"\[(\d+)\][\d.naif+-]+,")
_RUNNING = re.compile(r"\[\d+\]([\d.naif+-]+),")


@dataclass(frozen=True)
class Sampling:
    """How a text is cut: into chunks of ``context`` tokens, of which the second halves are predicted.

    At most ``chunks`` count, and the last one of the text does not.
    """

    context: int
    chunks: int

    def of(self, model: GgufInfo) -> Sampling:
        """Return this, with the context of a model that was trained on less."""
        return Sampling(context_of(model, self.context), self.chunks)

    @property
    def scored(self) -> int:
        """Tokens of a chunk that are predicted."""
        return self.context - 1 - self.context // 2

    def logits_bytes(self, vocabulary: int) -> int:
        """Return the size of a reference's file of so many chunks and the one that does not count."""
        chunks = self.chunks + 1
        row = 2 * ((vocabulary + 1) // 2) + 4  # a scale and a minimum, in the space of four entries
        return _HEADER_BYTES + 2 * chunks * self.scored * row + 4 * chunks * self.context


def measure_reference(  # noqa: PLR0913 - what to run, on what, how far, where to and who is told
    toolbox: Toolbox,
    model: GgufInfo,
    corpus: Corpus,
    sampling: Sampling,
    logits: Path,
    *,
    progress: ProgressCallback,
) -> Quality:
    """Run ``model`` over ``corpus`` and write its probabilities to ``logits``.

    Raises:
        ToolFailed: it does not load.
        VerificationFailed: its predictions are not numbers, or the text is shorter than two chunks.
    """
    extra = ["--kl-divergence-base", str(logits)]
    heard = ProgressParser("check source", progress).feed
    found = _run(toolbox, model, corpus, sampling, extra, heard, _RUNNING)
    chunks = _chunk_means([_log(running) for (running,) in found])
    return Quality(corpus.name, len(chunks) * sampling.scored, chunks)


def measure_against(  # noqa: PLR0913 - as above
    toolbox: Toolbox,
    model: GgufInfo,
    corpus: Corpus,
    sampling: Sampling,
    logits: Path,
    *,
    progress: ProgressCallback,
) -> Quality:
    """Compare ``model`` with the reference whose probabilities on ``corpus`` are in ``logits``.

    Every tensor is read again and its blocks are checked for values that are not finite.

    Raises:
        ToolFailed: it does not load.
        VerificationFailed: its predictions are not numbers.
    """
    extra = ["--kl-divergence", "--kl-divergence-base", str(logits), "--check-tensors"]
    heard = _RowParser(sampling.chunks, progress).feed
    rows = _run(toolbox, model, corpus, sampling, extra, heard, _ROW)
    return Quality(
        corpus.name,
        len(rows) * sampling.scored,
        _chunk_means([_log(perplexity) for _, perplexity, *_ in rows]),
        _chunk_means([float(row[3]) for row in rows]),
        _chunk_means([float(row[5]) / 100 for row in rows]),
    )


def decode_one_by_one(toolbox: Toolbox, model: GgufInfo, corpus: Corpus, context: int) -> tuple[float, float]:
    """Return the logarithm of the perplexity of one chunk token by token, as a model generates, and at once.

    Raises:
        ToolFailed: it does not load.
        VerificationFailed: its predictions are not numbers, or the text is shorter than two chunks.
    """
    results = []
    for batch in (1, context):
        one = Sampling(context, 1)
        found = _run(toolbox, model, corpus, one, [], lambda _: None, _RUNNING, batch=batch)
        results.append(_chunk_means([_log(running) for (running,) in found])[0])
    return results[0], results[1]


def _run(  # noqa: PLR0913, PLR0917 - one argument for each of the tool's
    toolbox: Toolbox,
    model: GgufInfo,
    corpus: Corpus,
    sampling: Sampling,
    extra: Sequence[str],
    heard: Callable[[str], None],
    line: re.Pattern[str],
    batch: int = 0,
) -> list[tuple[str, ...]]:
    """Return the groups of ``line`` for each chunk that counts.

    Raises:
        ToolFailed: as ``Toolbox.run_for_output``.
    """
    text = toolbox.directory / "held-out.txt"
    text.write_text(corpus.text, encoding="utf-8")
    arguments = ["-m", str(model.path), "-f", text.name, "--no-escape", "-t", str(toolbox.threads), *extra]
    arguments += ["-c", str(sampling.context), "-b", str(batch or sampling.context)]
    arguments += ["--chunks", str(sampling.chunks + 1)]
    try:
        output = toolbox.run_for_output(TOOL, arguments, heard, lambda output: _is_whole(output, line))
    finally:
        text.unlink()
    return _lines(output, line)


def _is_whole(output: str, line: re.Pattern[str]) -> bool:
    return _TOO_SHORT in output or 0 < _counting(output) == len(_lines(output, line))


def _counting(output: str) -> int:
    """Return how many chunks count: all but the last of those that the tool announced."""
    announced = _TOTAL.search(output)
    return int(announced[1]) - 1 if announced else 0


def _lines(output: str, line: re.Pattern[str]) -> list[tuple[str, ...]]:
    return [found.groups() for found in line.finditer(output)][: _counting(output)]


def _log(text: str) -> float:
    value = float(text)
    return math.log(value) if value > 0 else math.nan


def _chunk_means(running: Sequence[float]) -> tuple[float, ...]:
    """Return the values whose running means are ``running``.

    Raises:
        VerificationFailed: one is not a number, or there is none.
    """
    if not running:
        raise VerificationFailed("the text is too short to measure on")
    if not all(map(math.isfinite, running)):
        raise VerificationFailed("the model computes no finite probabilities")
    sums = [0.0, *(number * mean for number, mean in enumerate(running, 1))]
    return tuple(after - before for before, after in pairwise(sums))


class ProgressParser:
    """Turns the running perplexity into progress, in chunks."""

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


class _RowParser:
    """Turns the table that grows with each chunk into progress."""

    def __init__(self, chunks: int, progress: ProgressCallback) -> None:
        self._chunks, self._progress = chunks, progress
        self._seen = ""

    def feed(self, text: str) -> None:
        """Take the next piece of output, cut anywhere."""
        *lines, self._seen = (self._seen + text).split("\n")
        for line in lines:
            if found := _ROW.match(line):
                self._progress(Progress("check output", int(found[1]), self._chunks, "chunks"))
