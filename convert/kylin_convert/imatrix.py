"""The importance matrix, measured by llama-imatrix."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
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
PIECE = 4
"""Chunks that are kept together when a run is interrupted. The model is mapped again for each piece."""

_ENDED = "not enough tokens left"
_FAILED = 1
"""The status of a llama-imatrix that gives up, for whatever reason."""


def context_of(model: GgufInfo, wanted: int) -> int:
    """Return ``wanted`` tokens, or fewer where the model was trained on less."""
    return min(wanted, model.context_length) if model.context_length else wanted


def measure(  # noqa: PLR0913, PLR0917 - what to run, on what, how long, and where to
    toolbox: Toolbox,
    model: GgufInfo,
    corpus: Corpus,
    target: Path,
    progress: ProgressCallback,
    chunks: int = MAX_CHUNKS,
) -> Matrix:
    """Run ``model`` over ``corpus`` and write the matrix to ``target``, in the toolbox's directory.

    ``chunks``, a multiple of ``PIECE``, is how many are read at most.

    The text is read in pieces and each piece's sums are kept until all are added up: what an interrupted run
    has finished is not computed again, and the result does not depend on where it was interrupted.

    Raises:
        ToolFailed: llama-imatrix cannot load the model, or the corpus is shorter than two chunks.
        BadMatrix: what it computed is not whole, as when the disk is full.
    """
    text = target.with_suffix(".txt")
    work.write_atomically(text, corpus.text)
    pieces: list[Path] = []
    for start in range(0, chunks, PIECE):
        piece = target.with_name(f"{target.stem}.piece-{len(pieces)}.gguf")
        progress(Progress("imatrix", start, chunks, "chunks"))
        if not piece.is_file() and not _measure_piece(toolbox, model, text, piece, start):
            break
        pieces.append(piece)
        if matrix.check(piece, model).chunks < PIECE:
            break
    _add_up(toolbox, model, pieces, target)
    for path in (*pieces, text):
        path.unlink()
    return matrix.check(target, model)


def _measure_piece(toolbox: Toolbox, model: GgufInfo, text: Path, piece: Path, start: int) -> bool:
    """Write the sums of the piece from chunk ``start`` on; return False where the text has ended by then."""
    partial = piece.with_suffix(".part")

    def run(start: int, chunks: int) -> None:
        context = str(context_of(model, CONTEXT))
        arguments = ["-m", str(model.path), "-f", text.name, "-o", partial.name, "--output-format", "gguf"]
        arguments += ["-c", context, "-b", context, "-t", str(toolbox.threads)]
        arguments += ["--parse-special", "--no-escape", "--no-ppl"]
        toolbox.run("llama-imatrix", [*arguments, "--chunk", str(start), "--chunks", str(chunks)])

    try:
        with work.blaming_full_disk(partial, _bytes(model)):
            if not _run_unless_ended(run, start):
                return False
            matrix.check(partial, model)
        work.sync(partial)
        partial.replace(piece)
    finally:
        partial.unlink(missing_ok=True)
    return True


def _run_unless_ended(run: Callable[[int, int], None], start: int) -> bool:
    """``run`` from chunk ``start`` on, so many; return False where the text has none any more.

    The tool says so with its last words, and those may be lost (see ``Toolbox.run_for_output``). Without
    them, that it still reads the chunk before tells that nothing else is wrong.
    """
    try:
        run(start, PIECE)
    except ToolFailed as error:
        if not start or error.status != _FAILED:
            raise
        if _ENDED not in error.output:
            run(start - 1, 1)
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
