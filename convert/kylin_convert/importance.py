"""Which importance matrix a model is quantised with: one that was given, or one measured here and kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kylin_convert import calibration, imatrix, matrix, work
from kylin_convert.tools import Toolbox
from kylin_gguf.gguf_info import GgufInfo
from kylin_gguf.records import ProgressCallback
from kylin_gguf.translation import N_, translate

_UNSEEN = N_(
    "{unseen} of {experts} experts met no token of the calibration text; they are weighed by what the others "
    "of their layer met."
)


@dataclass(frozen=True)
class Importance:
    """A matrix in the work directory, what the manifest says of it, and a sentence for the user or none."""

    path: Path
    about: Mapping[str, Any]
    notice: str


def measured(  # noqa: PLR0913, PLR0917 - of what, by what, and who is told and keeps the time
    toolbox: Toolbox,
    model: GgufInfo,
    made_from: Mapping[str, Any],
    own: Path | None,
    progress: ProgressCallback,
    timed: Callable[[str], AbstractContextManager[None]],
) -> Importance:
    """Measure the matrix on the user's ``own`` corpus or the shipped one, unless it was kept.

    ``made_from`` is what else it depends on.

    Raises:
        KylinError: as ``calibration.from_file`` and ``imatrix.measure``.
    """
    corpus = calibration.from_file(own, model) if own else calibration.shipped(model)
    inputs = {
        "text": corpus.text,
        "context": imatrix.context_of(model, imatrix.CONTEXT),
        "chunks": (imatrix.MAX_CHUNKS, imatrix.piece_of(model)),
        **made_from,
    }
    path = toolbox.directory / f"imatrix-{work.key_of(inputs)}.gguf"
    if not path.is_file():
        with timed("imatrix"):
            imatrix.measure(toolbox, model, corpus, path, progress)
    return _described(path, model, corpus.name, corpus.sha256)


def given(toolbox: Toolbox, model: GgufInfo, file: Path) -> Importance:
    """Take the matrix in ``file``.

    Raises:
        FileMissing, TruncatedGguf, BadMatrix: as ``matrix.check``.
    """
    matrix.check(file, model)
    path = toolbox.directory / f"imatrix-given-{work.sha256_of(file)[:16]}.gguf"
    matrix.fill_unseen(file, path)
    return _described(path, model, file.name, "")


def _described(path: Path, model: GgufInfo, corpus: str, sha256: str) -> Importance:
    found = matrix.check(path, model)
    coverage, notice = found.coverage, ""
    if coverage and coverage.unseen:
        notice = translate(_UNSEEN).format(unseen=coverage.unseen, experts=coverage.experts)
    about = {
        "corpus": corpus,
        "corpus_sha256": sha256,
        "imatrix_sha256": work.sha256_of(path),
        "chunks": found.chunks,
        "entries": found.entries,
        "experts": coverage.to_json() if coverage else None,
    }
    return Importance(path, about, notice)
