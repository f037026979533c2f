"""Tables of words' vectors, made of the models that learn the commands and kept on disk; one is in force.

A table is judged by the catalogue's own examples, each left out in turn: unless clearly more of them are
understood with it than by their words alone, it is not used, which is remembered. Of several models the one
whose table serves best has the say, so that it does not matter which one is asked.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kylin_gguf.actuator import word_making
from kylin_gguf.actuator.array_files import ArrayFiles
from kylin_gguf.actuator.catalogue import CommandCatalogue
from kylin_gguf.actuator.shortlist import Shortlist
from kylin_gguf.actuator.word_vectors import WordVectors
from kylin_gguf.errors import NotGguf, UnsupportedModel

log = logging.getLogger(__name__)

KIND = "1"
"""Of tables; what is kept of another kind is of no use."""
IN_FORCE = f"in-force-{KIND}"
MAX_FILES = 32
QUESTIONS = 4000
"""Examples that a table is judged by, or half as many again: some seconds' work."""
SURE = 3.0
"""Standard deviations by which more examples have to be won than lost (McNemar 1947)."""


class _Kept(NamedTuple):
    words: WordVectors
    right: float
    """The share of examples that is understood with it."""


class WordTables:
    """The tables. Safe to share between threads."""

    def __init__(self, directory: Path) -> None:
        """Keep them in ``directory``."""
        self._files, self._lock = ArrayFiles(directory, limit=MAX_FILES), threading.Lock()
        self._judged: set[str] = set()
        self._read = False
        self._kept: _Kept | None = None

    def in_force(self) -> WordVectors | None:
        """Return the table that utterances are compared by, if there is one."""
        with self._lock:
            kept = self._in_force()
        return kept.words if kept else None

    def knows(self, model: str) -> bool:
        """Whether the table of the model of that identity was judged."""
        if model not in self._judged and self._files.read(_name(model), lambda _: True):
            self._judged.add(model)
        return model in self._judged

    def judge(self, model: str, path: Path, catalogue: CommandCatalogue) -> bool:
        """Make the table of the model of that identity, in the file ``path``, and put it in force if it
        serves better than the one that is. Takes some seconds.

        Returns:
            Whether it was put in force.

        Raises:
            FileMissing, TruncatedGguf: ``path`` cannot be read.
        """
        made = _made(path, catalogue)
        with self._lock:
            before = self._in_force()
            better = made is not None and (before is None or made.right > before.right)
            if made and better:
                self._kept = made
                self._files.write(IN_FORCE, {**made.words.arrays(), "right": np.array([made.right])})
        self._files.write(_name(model), {"right": np.array([made.right if made else 0.0])})
        self._judged.add(model)
        return better

    def _in_force(self) -> _Kept | None:
        if not self._read:
            self._read, self._kept = True, self._files.read(IN_FORCE, _from_arrays)
        return self._kept


def _from_arrays(arrays: Mapping[str, NDArray[np.generic]]) -> _Kept:
    return _Kept(WordVectors.from_arrays(arrays), float(arrays["right"].astype(np.float64)[0]))


def _made(path: Path, catalogue: CommandCatalogue) -> _Kept | None:
    """Return the table of the model in ``path``; None if it serves no better than words alone."""
    try:
        words = word_making.make(path, [example.text for example in catalogue.examples()])
    except (NotGguf, UnsupportedModel) as error:  # it may be a model of llama.cpp's all the same
        log.info("commands are compared by their words alone: %s", error.statement())
        return None
    if words is None:
        return None
    questions = _part(catalogue)
    without, using = _right(Shortlist(questions)), _right(Shortlist(questions, words))
    won, lost = int(np.sum(using & ~without)), int(np.sum(without & ~using))
    log.info("vectors of words: of %d examples %d are won and %d lost", len(using), won, lost)
    helps = won - lost > SURE * np.sqrt(won + lost)
    return _Kept(words, float(using.mean())) if helps else None


def _part(catalogue: CommandCatalogue) -> CommandCatalogue:
    """Return ``catalogue`` with about QUESTIONS of its examples, spread evenly."""
    examples = list(catalogue.examples())
    kept = set(examples[:: max(1, round(len(examples) / QUESTIONS))])
    commands = tuple(
        replace(c, examples=tuple(example for example in c.examples if example in kept))
        for c in catalogue.commands
    )
    negatives = tuple(example for example in catalogue.negatives if example in kept)
    return replace(catalogue, commands=commands, negatives=negatives)


def _right(shortlist: Shortlist) -> NDArray[np.bool_]:
    """Return of which examples the command, or that it is none, is found when they are left out."""
    found = shortlist.leave_one_out()
    right = [max(scores, key=scores.__getitem__).command == example.command for example, scores in found]
    return np.array(right, np.bool_)


def _name(model: str) -> str:
    return hashlib.blake2b(repr((KIND, model)).encode(), digest_size=16).hexdigest()
