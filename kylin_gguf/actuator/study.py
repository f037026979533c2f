"""How a model comes to know the commands: it is shown their examples, once, while nobody waits."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol
from weakref import WeakKeyDictionary

import numpy as np

from kylin_gguf.actuator import prompt
from kylin_gguf.actuator.array_files import ArrayFiles
from kylin_gguf.actuator.index import Index
from kylin_gguf.actuator.readout import KIND, Readout
from kylin_gguf.actuator.ridge import Vector
from kylin_gguf.actuator.shortlist import Meaning, Shortlist, meaning_of
from kylin_gguf.actuator.word_study import ModelFile, WordStudy
from kylin_gguf.actuator.wording import normalise
from kylin_gguf.errors import KylinError, ModelNotInstalled, TextTooLong, UnsupportedModel
from kylin_gguf.records import Message, Progress, ProgressCallback, no_progress

log = logging.getLogger(__name__)

# How many examples are shown: of each meaning, and of no command. With half as many of a meaning,
# Qwen2.5-Coder 0.5B understands 5 fewer of the 320 requests of bench/data/commands-check.jsonl; twice as many
# of no command change nothing.
EACH, OF_NONE = 14, 450
CHUNK = 32
"""Texts of one request: what is lost when the model is unloaded meanwhile is some seconds' work."""
MAX_FILES = 32


class Heard(NamedTuple):
    """What a model makes of an utterance: for each index, what it adds to the score of each meaning, and None
    for one that it has yet to learn."""

    scores: tuple[Mapping[Meaning, float] | None, ...]
    trust: float
    """How much its scores count beside those of the wording."""


class HiddenStates(ModelFile, Protocol):
    """A model that can be shown texts. It is looked for, and loaded, when it is asked."""

    async def identity(self) -> str:
        """Return what its states depend on, in a word.

        Raises:
            ModelNotInstalled: there is no such model.
        """

    async def of(self, texts: Sequence[str], before: tuple[Message, ...], *, background: bool) -> Vector:
        """Return the hidden state of each text behind ``before`` at ``prompt.DEPTH``, of shape (len(texts),
        width).

        Raises:
            KylinError: as ``engine.process.EngineProcess.hidden_states`` does.
        """


class Study:
    """The readouts of the models that were asked. Lives on one event loop."""

    def __init__(self, directory: Path, *, each: int = EACH, words: WordStudy | None = None) -> None:
        """Keep readouts in ``directory``; show a model ``each`` examples of a meaning. ``words`` learns from
        it what words mean."""
        self._files, self._each, self._words = ArrayFiles(directory, limit=MAX_FILES), each, words
        self._learnt: dict[str, Readout] = {}
        self._lessons: WeakKeyDictionary[Shortlist, _Lesson] = WeakKeyDictionary()
        self._unfit: set[str] = set()
        """Models that give no hidden states out."""
        self._task: asyncio.Task[None] | None = None

    async def hear(self, indexes: Sequence[Index], text: str, model: HiddenStates) -> Heard | None:
        """Return what ``model`` makes of normalised ``text``.

        Returns:
            None if it has not learnt the largest of ``indexes`` yet, or the text is too long. What it has not
            learnt it begins to learn now.

        Raises:
            KylinError: whatever ``model`` raises, except that there is none.
        """
        try:
            identity = await model.identity()
        except ModelNotInstalled:  # a desktop without one has commands all the same
            return None
        before = self._before(indexes)
        readouts = [self._find(self._lesson(index), before, identity) for index in indexes]
        new = (None in readouts and identity not in self._unfit) or (
            self._words is not None and not self._words.knows(identity)
        )
        if new and (self._task is None or self._task.done()):
            self._task = asyncio.ensure_future(self._learn_meanwhile(indexes, model))
        judge = readouts[self._judge(indexes)]
        if judge is None:
            return None
        try:
            (state,) = await model.of((text,), before, background=False)
        except TextTooLong:
            return None
        trust = judge.trust
        return Heard(tuple(r.scores(state, trust) if r else None for r in readouts), trust)

    async def recall(self, indexes: Sequence[Index], model: HiddenStates) -> None:
        """Have ``model`` read what all utterances come behind, if it has learnt the largest of ``indexes``.

        Raises:
            KylinError: whatever ``model`` raises.
        """
        before = self._before(indexes)
        if self._find(self._lesson(indexes[self._judge(indexes)]), before, await model.identity()):
            await model.of(("",), before, background=True)

    async def learn(self, indexes: Sequence[Index], model: HiddenStates, progress: ProgressCallback) -> None:
        """Have ``model`` learn ``indexes``; takes minutes where it does not know them.

        Raises:
            KylinError: whatever ``model`` raises.
        """
        identity = await model.identity()
        if self._words:  # first: it takes seconds, and serves even if all else is interrupted
            await self._words.learn(indexes[self._judge(indexes)], identity, model)
        before, lessons = self._before(indexes), map(self._lesson, indexes)
        new = [lesson for lesson in lessons if self._find(lesson, before, identity) is None]
        texts = sum(len(lesson.texts) for lesson in new)
        shown = 0
        for lesson in new:
            states = []
            for first in range(0, len(lesson.texts), CHUNK):
                chunk = lesson.texts[first : first + CHUNK]
                states.append(await model.of(chunk, before, background=True))
                shown += len(chunk)
                progress(Progress("learning", shown, texts, "examples"))
            readout = await asyncio.to_thread(Readout.fit, np.concatenate(states), lesson.meanings)
            name = lesson.name(before, identity)
            self._learnt[name] = readout
            await asyncio.to_thread(self._files.write, name, readout.arrays())

    async def close(self) -> None:
        """Stop learning."""
        if self._task:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _learn_meanwhile(self, indexes: Sequence[Index], model: HiddenStates) -> None:
        try:
            await self.learn(indexes, model, no_progress)
        except UnsupportedModel as error:
            log.info("commands are understood without this model: %s", error.statement())
            self._unfit.add(await model.identity())
        except KylinError as error:  # unloaded, for one: it is tried again when somebody asks
            log.info("learning the commands was interrupted: %s", error.statement())

    def _judge(self, indexes: Sequence[Index]) -> int:
        """An exam of few questions says little: the catalogue with the most examples is the judge."""
        return max(range(len(indexes)), key=lambda i: len(self._lesson(indexes[i]).texts))

    def _before(self, indexes: Sequence[Index]) -> tuple[Message, ...]:
        """Return what all texts are shown behind. One pass of the model serves all catalogues, so only one is
        listed, the judge's."""
        judge = indexes[self._judge(indexes)].catalogue
        # In English, as the answers that the prompt shows are.
        return prompt.before(command.description["en"] for command in judge.commands)

    def _lesson(self, index: Index) -> _Lesson:
        found = self._lessons.get(index.shortlist)
        if found is None:
            found = self._lessons[index.shortlist] = _Lesson(index, self._each)
        return found

    def _find(self, lesson: _Lesson, before: tuple[Message, ...], identity: str) -> Readout | None:
        name = lesson.name(before, identity)
        if name not in self._learnt:
            meanings = tuple(dict.fromkeys(lesson.meanings))
            found = self._files.read(name, lambda arrays: Readout.from_arrays(meanings, arrays))
            if found:
                self._learnt[name] = found
        return self._learnt.get(name)


class _Lesson:
    """The examples of one index that a model is shown."""

    def __init__(self, index: Index, each: int) -> None:
        chosen = list(_choose(index, each))
        self.texts = tuple(text for text, _ in chosen)
        self.meanings = tuple(meaning for _, meaning in chosen)
        self._chosen = _digest(chosen)

    def name(self, before: tuple[Message, ...], model: str) -> str:
        """Return what the readout of it is called that ``model`` gives, shown it behind ``before``."""
        return _digest(KIND, before, prompt.DEPTH, self._chosen, model)


def _choose(index: Index, each: int) -> Iterator[tuple[str, Meaning]]:
    """Yield texts with their meanings: always the same examples, spread by their hashes over all there are,
    and what commands are described as."""
    counts: dict[Meaning, int] = {}
    for example in sorted(index.shortlist.examples, key=lambda example: _digest(example.text)):
        meaning = meaning_of(example)
        counts[meaning] = counts.get(meaning, 0) + 1
        if counts[meaning] <= (each if meaning.command else OF_NONE):
            yield index.written.get(example, example).text, meaning
    for command in index.catalogue.commands:
        # Of a command that means this or that by its arguments, a description does not say which.
        meanings = tuple(dict.fromkeys(map(meaning_of, command.examples)))
        if len(meanings) == 1:
            for text in command.description.values():
                yield normalise(text), meanings[0]


def _digest(*parts: object) -> str:
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()
