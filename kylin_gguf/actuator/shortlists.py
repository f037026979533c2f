"""Trained shortlists, kept on disk: what a catalogue's examples come to is computed once.

``python -m kylin_gguf.actuator.shortlists DIRECTORY`` makes there what goes into a package: the shortlist of
the catalogue that ships, so that nobody waits for the first command.
"""

from __future__ import annotations

import functools
import hashlib
import sys
from pathlib import Path

from kylin_gguf.actuator.array_files import ArrayFiles
from kylin_gguf.actuator.catalogue import CommandCatalogue
from kylin_gguf.actuator.index import Index
from kylin_gguf.actuator.shipped import load_commands
from kylin_gguf.actuator.shortlist import Shortlist

IN_PACKAGE = Path(__file__).parent / "trained"
MAX_FILES = 16
"""Of the shipped catalogue, of those registered, and of what both were before."""


class Shortlists:
    """Directories of trained shortlists, each named by what it was made from."""

    def __init__(self, directory: Path, *others: Path, limit: int = MAX_FILES) -> None:
        """Keep in ``directory`` the ``limit`` last used ones; read there and in ``others``."""
        self._files = ArrayFiles(directory, *others, limit=limit)

    def of(self, catalogue: CommandCatalogue) -> Shortlist:
        """Return the shortlist of ``catalogue``, from its file or by training, which writes that file."""
        key = _key(catalogue)
        found = self._files.read(key, lambda arrays: Shortlist(catalogue, arrays))
        if found is None:
            found = Shortlist(catalogue)
            self._files.write(key, found.arrays())
        return found


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
