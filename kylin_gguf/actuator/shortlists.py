"""Trained shortlists, kept on disk: what a catalogue's examples come to is computed once.

``python -m kylin_gguf.actuator.shortlists DIRECTORY`` makes there what goes into a package: the shortlist of
the catalogue that ships, so that nobody waits for the first command.
"""

from __future__ import annotations

import functools
import hashlib
import io
import logging
import os
import sys
import zipfile
from pathlib import Path

import numpy as np

from kylin_gguf.actuator.catalogue import CommandCatalogue
from kylin_gguf.actuator.index import Index
from kylin_gguf.actuator.shipped import load_commands
from kylin_gguf.actuator.shortlist import Shortlist
from kylin_gguf.store.manifest import write_atomically

log = logging.getLogger(__name__)

IN_PACKAGE = Path(__file__).parent / "trained"
MAX_FILES = 16
"""Of the shipped catalogue, of those registered, and of what both were before."""


class Shortlists:
    """Directories of trained shortlists, each named by what it was made from."""

    def __init__(self, directory: Path, *others: Path, limit: int = MAX_FILES) -> None:
        """Write to ``directory``, where the ``limit`` last used files stay; read there and in ``others``."""
        self._directory, self._directories, self._limit = directory, (*others, directory), limit

    def of(self, catalogue: CommandCatalogue) -> Shortlist:
        """Return the shortlist of ``catalogue``, from its file or by training, which writes that file.

        A file that cannot be read or written costs the time to train, and is no error.
        """
        name = f"{_key(catalogue)}.npz"
        for directory in self._directories:
            found = _load(directory / name, catalogue)
            if found is not None:
                return found
        shortlist = Shortlist(catalogue)
        try:
            self._save(name, shortlist)
        except OSError as error:
            log.warning("the trained shortlist of %s is not kept: %s", catalogue.name, error)
        return shortlist

    def _save(self, name: str, shortlist: Shortlist) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        content = io.BytesIO()
        np.savez(content, **shortlist.arrays())  # type: ignore[arg-type]  # the stub sees allow_pickle alone
        write_atomically(self._directory / name, content.getvalue())
        for old in sorted(self._directory.glob("*.npz"), key=_last_used, reverse=True)[self._limit :]:
            old.unlink(missing_ok=True)


def _load(path: Path, catalogue: CommandCatalogue) -> Shortlist | None:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            shortlist = Shortlist(catalogue, dict(arrays))
        if os.access(path, os.W_OK):
            path.touch()
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        log.warning("%s is not a trained shortlist: %s", path, error)
        return None
    return shortlist


def _last_used(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # another service has removed it
        return 0.0


def _key(catalogue: CommandCatalogue) -> str:
    digest = hashlib.blake2b(_code(), digest_size=16)
    for example in catalogue.examples():
        digest.update(repr((example.text, example.command, example.forms)).encode())
    digest.update(repr(sorted((catalogue.terms or {}).items())).encode())
    return digest.hexdigest()


@functools.cache
def _code() -> bytes:
    """A digest of the code that decides what training comes to: of this package, to be on the safe side."""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.digest()


if __name__ == "__main__":
    Index.train(load_commands(()), (), Shortlists(Path(sys.argv[1]), limit=1).of)
