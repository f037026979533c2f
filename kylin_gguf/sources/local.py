"""A file that is already on this machine."""

from __future__ import annotations

from pathlib import Path

from kylin_gguf.catalogue import LocalSource
from kylin_gguf.errors import SourceFailed
from kylin_gguf.records import Progress, ProgressCallback
from kylin_gguf.sources.base import CHUNK_BYTES, CancelCheck, Fetched, Wanted, check, require_space


def fetch(
    source: LocalSource, wanted: Wanted, directory: Path, progress: ProgressCallback, cancelled: CancelCheck
) -> Fetched:
    """Copy the file, so that a medium can be removed afterwards."""
    return Fetched(copy(source.path, directory / wanted.file, source.label, progress, cancelled), "")


def copy(path: Path, target: Path, label: str, progress: ProgressCallback, cancelled: CancelCheck) -> Path:
    """Copy ``path`` to ``target`` and return it; raises as ``base.Fetch``, naming the source ``label``."""
    try:
        with path.open("rb") as original, target.open("wb") as file:
            total = path.stat().st_size
            require_space(target.parent, total)
            while chunk := original.read(CHUNK_BYTES):
                check(cancelled)
                file.write(chunk)
                progress(Progress(label, file.tell(), total))
    except OSError as error:
        raise SourceFailed(label, error.strerror or str(error)) from error
    return target
