"""The importance matrix, measured by llama-imatrix."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from kylin_convert import matrix, work
from kylin_convert.calibration import Corpus
from kylin_convert.matrix import Matrix
from kylin_convert.tools import Toolbox
from kylin_gguf.errors import ToolFailed
from kylin_gguf.gguf_info import GgufInfo
from kylin_gguf.records import Progress, ProgressCallback

CONTEXT = 512
"""Tokens a chunk; what upstream's own matrices are made with."""
MAX_CHUNKS = 32
"""Enough for every weight to meet text of both languages; a minute for 0.5 billion weights on two cores."""

_LARGE = 4 * 10**9
"""Weights from which on a chunk takes much longer than loading the model."""
_SMALL_PIECE, _LARGE_PIECE = 16, 4

_DONE = re.compile(r"\[(\d+)\],")
"""What the tool says of each chunk, by our patch to it."""
_ENDED = "not enough tokens left"
_LEFT = 2
"""Chunks of which the tool wants to find as many, however few it is to read."""
_FAILED = 1
"""The status of a llama-imatrix that gives up, for whatever reason."""


def context_of(model: GgufInfo, wanted: int) -> int:
    """Return ``wanted`` tokens, or fewer where the model was trained on less."""
    return min(wanted, model.context_length) if model.context_length else wanted


def piece_of(model: GgufInfo) -> int:
    """Return how many chunks of ``model`` are kept together when a run is interrupted.

    It is loaded again for each piece, which takes a small one as long as a chunk: mostly for its vocabulary.
    """
    return _SMALL_PIECE if model.parameters < _LARGE else _LARGE_PIECE


def measure(  # noqa: PLR0913, PLR0917 - what to run, on what, how long, and where to
    toolbox: Toolbox,
    model: GgufInfo,
    corpus: Corpus,
    target: Path,
    progress: ProgressCallback,
    chunks: int = MAX_CHUNKS,
) -> Matrix:
    """Run ``model`` over ``corpus`` and write the matrix to ``target``, in the toolbox's directory.

    ``chunks`` is how many are read at most.

    The text is read in pieces and each piece's sums are kept until all are added up: what an interrupted run
    has finished is not computed again, and the result does not depend on where it was interrupted.

    Raises:
        ToolFailed: llama-imatrix cannot load the model, or the corpus is shorter than two chunks.
        BadMatrix: what it computed is not whole, as when the disk is full.
    """
    text = target.with_suffix(".txt")
    work.write_atomically(text, corpus.text)
    pieces: list[Path] = []
    size, reader = piece_of(model), _Reader(toolbox, model, text, chunks, progress)
    for start in range(0, chunks, size):
        piece = target.with_name(f"{target.stem}.piece-{len(pieces)}.gguf")
        progress(Progress("imatrix", start, chunks, "chunks"))
        wanted = min(size, chunks - start)
        if not piece.is_file() and not reader.read(start, wanted, piece):
            break
        pieces.append(piece)
        if matrix.check(piece, model).chunks < wanted:
            break
    _add_up(toolbox, model, pieces, target)
    for path in (*pieces, text):
        path.unlink()
    return matrix.check(target, model)


@dataclass(frozen=True)
class _Reader:
    """Runs ``model`` over ``text``, of which ``chunks`` are read in all."""

    toolbox: Toolbox
    model: GgufInfo
    text: Path
    chunks: int
    progress: ProgressCallback

    def read(self, start: int, count: int, piece: Path) -> bool:
        """Write the sums of ``count`` chunks from ``start`` on; return False where the text ended before."""
        unfinished = piece.with_suffix(".part")
        try:
            with work.blaming_full_disk(unfinished, _bytes(self.model)):
                if not _run_unless_ended(partial(self._run, unfinished), start, count):
                    return False
                matrix.check(unfinished, self.model)
            work.sync(unfinished)
            unfinished.replace(piece)
        finally:
            unfinished.unlink(missing_ok=True)
        return True

    def _run(self, target: Path, start: int, count: int) -> None:
        def heard(text: str) -> None:
            for done in _DONE.findall(text)[-1:]:
                self.progress(Progress("imatrix", start + int(done), self.chunks, "chunks"))

        context = str(context_of(self.model, CONTEXT))
        arguments = ["-m", str(self.model.path), "-f", self.text.name, "-o", target.name]
        arguments += ["-c", context, "-b", context, "-t", str(self.toolbox.threads)]
        arguments += ["--output-format", "gguf", "--parse-special", "--no-escape", "--no-ppl"]
        arguments += ["--chunk", str(start), "--chunks", str(count)]
        self.toolbox.run("llama-imatrix", arguments, heard)


def _run_unless_ended(run: Callable[[int, int], None], start: int, chunks: int) -> bool:
    """``run`` from chunk ``start`` on, ``chunks`` of them; return False where the text has none any more.

    The tool says so with its last words, and those may be lost (see ``Toolbox.run_for_output``). Without
    them, that it still reads from where enough is left tells that nothing else is wrong.
    """
    try:
        run(start, chunks)
    except ToolFailed as error:
        if not start or error.status != _FAILED:
            raise
        if _ENDED not in error.output:
            run(start - _LEFT, 1)
        return False
    return True


def _add_up(toolbox: Toolbox, model: GgufInfo, pieces: Sequence[Path], target: Path) -> None:
    summed, filled = target.with_suffix(".sum"), target.with_suffix(".part")
    files = ",".join(piece.name for piece in pieces)
    try:
        with work.blaming_full_disk(target, 2 * _bytes(model)):
            # It wants to be told a model, and does not load it.
            arguments = ["-m", str(model.path), "--in-file", files, "-o", summed.name]
            toolbox.run("llama-imatrix", [*arguments, "--output-format", "gguf"])
            matrix.check(summed, model)
            matrix.fill_unseen(summed, filled)
        work.sync(filled)
        filled.replace(target)
    finally:
        summed.unlink(missing_ok=True)
        filled.unlink(missing_ok=True)


def _bytes(model: GgufInfo) -> int:
    """Return the size of a matrix, less its names: a float for each column of each weight."""
    return sum(
        4 * math.prod(tensor.shape) // tensor.shape[1] for tensor in model.tensors if len(tensor.shape) > 1
    )
