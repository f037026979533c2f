"""Arrays that took long to compute, kept on disk by name. One that is missing or damaged costs that time."""

from __future__ import annotations

import io
import logging
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from kylin_gguf.store.manifest import write_atomically

log = logging.getLogger(__name__)

Arrays = Mapping[str, NDArray[np.generic]]
Made = TypeVar("Made")


class ArrayFiles:
    """Directories of files ``NAME.npz``."""

    def __init__(self, directory: Path, *others: Path, limit: int) -> None:
        """Write to ``directory``, where the ``limit`` last used files stay; read there and in ``others``."""
        self._directory, self._directories, self._limit = directory, (*others, directory), limit

    def read(self, name: str, make: Callable[[Arrays], Made]) -> Made | None:
        """Return what ``make`` makes of the arrays of ``name``.

        Returns:
            None if there are none, or ``make`` raises a KeyError or a ValueError over them.
        """
        for directory in self._directories:
            path = directory / f"{name}.npz"
            try:
                with np.load(path, allow_pickle=False) as arrays:
                    made = make(dict(arrays))
                if os.access(path, os.W_OK):
                    path.touch()
            except FileNotFoundError:
                continue
            except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
                log.warning("%s is of no use: %s", path, error)
                continue
            return made
        return None

    def write(self, name: str, arrays: Arrays) -> None:
        """Keep ``arrays``. Where that is not possible they will be computed again, which is no error."""
        content = io.BytesIO()
        np.savez(content, **arrays)  # type: ignore[arg-type]  # the stub sees allow_pickle alone
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            write_atomically(self._directory / f"{name}.npz", content.getvalue())
            for old in sorted(self._directory.glob("*.npz"), key=_last_used, reverse=True)[self._limit :]:
                old.unlink(missing_ok=True)
        except OSError as error:
            log.warning("%s is not kept: %s", name, error)


def _last_used(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # another service has removed it
        return 0.0
