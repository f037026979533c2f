"""Trained shortlists, kept on disk: what a catalogue's examples come to is computed once.

``python -m kylin_gguf.actuator.shortlists DIRECTORY`` makes there what goes into a package: the shortlist of
the catalogue that ships, so that nobody waits for the first command.
"""

from __future__ import annotations

import functools
import hashlib
import sys
from collections.abc import Callable
from pathlib import Path

from kylin_gguf.actuator.array_files import ArrayFiles
from kylin_gguf.actuator.catalogue import CommandCatalogue
from kylin_gguf.actuator.index import Index
from kylin_gguf.actuator.shipped import load_commands
from kylin_gguf.actuator.shortlist import Shortlist
from kylin_gguf.actuator.word_vectors import WordVectors

IN_PACKAGE = Path(__file__).parent / "trained"
MAX_FILES = 16
"""Of the shipped catalogue, of those registered, and of what both were before."""


def no_words() -> None:
    """Examples are compared by their words alone."""


class Shortlists:
    """Directories of trained shortlists, each named by what it was made from."""

    def __init__(
        self,
        directory: Path,
        *others: Path,
        words: Callable[[], WordVectors | None] = no_words,
        limit: int = MAX_FILES,
    ) -> None:
        """Keep in ``directory`` the ``limit`` last used ones; read there and in ``others``. ``words`` returns
        the vectors of words that are in force."""
        self._files, self._words = ArrayFiles(directory, *others, limit=limit), words

    def of(self, catalogue: CommandCatalogue) -> Shortlist:
        """Return a shortlist of ``catalogue``, from its file or by training, which writes that file.

        One that was trained with other vectors of words than those in force is still one: nobody waits for a
        ``better`` one.
        """
        words = self._words()
        found = self._kept(catalogue, words)
        if found is None and words:
            found = self._kept(catalogue, None)
        return found or self._trained(catalogue, words)

    def better(self, catalogue: CommandCatalogue, than: Shortlist) -> Shortlist | None:
        """Return the shortlist of ``catalogue`` that goes by the vectors of words in force, from its file or
        by training; None if ``than`` does."""
        words = self._words()
        if than.words is words:
            return None
        return self._kept(catalogue, words) or self._trained(catalogue, words)

    def _kept(self, catalogue: CommandCatalogue, words: WordVectors | None) -> Shortlist | None:
        return self._files.read(_key(catalogue, words), lambda arrays: Shortlist(catalogue, words, arrays))

    def _trained(self, catalogue: CommandCatalogue, words: WordVectors | None) -> Shortlist:
        made = Shortlist(catalogue, words)
        self._files.write(_key(catalogue, words), made.arrays())
        return made


def _key(catalogue: CommandCatalogue, words: WordVectors | None) -> str:
    digest = hashlib.blake2b(_code(), digest_size=16)
    if words:
        digest.update(words.digest.encode())
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
