"""What every kind of source has in common: the contract, and the checks that all of them make."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from kylin_gguf.errors import Cancelled, NoSpace
from kylin_gguf.records import ProgressCallback

CHUNK_BYTES: Final = 1 << 20
CancelCheck = Callable[[], bool]


@dataclass(frozen=True)
class Wanted:
    """What the catalogue promises about a file: its name once installed, bytes (0) and SHA-256 ("")."""

    file: str
    size: int = 0
    sha256: str = ""


@dataclass(frozen=True)
class Fetched:
    """A file that a source delivered, and the exact revision it is of; nothing about it is verified yet."""

    path: Path
    revision: str


class Fetch(Protocol):
    """Get one file of ``source`` into ``directory``, which exists and belongs to this source alone.

    What an earlier, interrupted call left in ``directory`` is used where the source can resume.
    ``progress`` gets bytes; ``cancelled`` is asked at least every few seconds. Blocks.

    Raises:
        SourceFailed: it did not deliver; an unreachable source says so within seconds.
        ChecksumMismatch: a container of the file is not the pinned one.
        NoSpace: the disk is full, or would be.
        Cancelled: ``cancelled`` returned True; what was fetched so far is kept.
    """

    def __call__(
        self, source: Any, wanted: Wanted, directory: Path, progress: ProgressCallback, cancelled: CancelCheck
    ) -> Fetched: ...


def check(cancelled: CancelCheck) -> None:
    """Raise Cancelled if ``cancelled`` says so."""
    if cancelled():
        raise Cancelled


def require_space(directory: Path, needed: int) -> None:
    """Raise NoSpace unless the file system of ``directory`` has ``needed`` bytes free."""
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise NoSpace(str(directory), needed, free)
