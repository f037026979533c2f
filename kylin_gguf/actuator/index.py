"""One catalogue in force: its commands, and the trained shortlist that utterances are compared by."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from kylin_gguf.actuator.catalogue import Command, CommandCatalogue, Example
from kylin_gguf.actuator.choices import Choices
from kylin_gguf.actuator.shortlist import Meaning, Scores, Shortlist
from kylin_gguf.actuator.slots import SYMBOL, TERM, frame, has_slots, learnt
from kylin_gguf.actuator.values import Utterance

Learner = Callable[[CommandCatalogue], Shortlist]
"""How a catalogue's examples are learnt: by ``Shortlist`` itself, or from what is kept of that."""
Improver = Callable[[CommandCatalogue, Shortlist], Shortlist | None]
"""How they are learnt when there is a better way than there was; None if there is not."""

MAX_FRAMES = 4
"""Different frames that an utterance is read as; each costs a comparison with all examples."""

# What a later catalogue learns not to be: for each of its examples, this many of the first one's nearest.
CONTRAST = 4
# Likeness from which an example of no command in the first catalogue is what a later one is registered for.
CLAIMED = 0.7


@dataclass(frozen=True)
class Index:
    """A catalogue with its shortlist. Immutable; safe to share between threads.

    ``learning`` is ``catalogue`` as its examples are learnt; ``written`` gives for each of those the one in
    the catalogue.
    """

    catalogue: CommandCatalogue
    learning: CommandCatalogue
    shortlist: Shortlist
    written: Mapping[Example, Example]
    slotted: tuple[Command, ...]

    @classmethod
    def train(
        cls, catalogue: CommandCatalogue, contrast: Iterable[Example] = (), learn: Learner | None = None
    ) -> Index:
        """Learn the examples of ``catalogue``, and ``contrast`` as examples of none of its commands.

        Takes the cube of their number, unless ``learn`` has it from before: call it in a thread.
        """
        written = {replace(e, text=learnt(e)): e for e in catalogue.examples()}
        commands = tuple(
            replace(c, examples=tuple(replace(e, text=learnt(e)) for e in c.examples))
            for c in catalogue.commands
        )
        negatives = (*(replace(e, text=learnt(e)) for e in catalogue.negatives), *contrast)
        slotted = tuple(filter(has_slots, catalogue.commands))
        terms = {**(catalogue.terms or {}), **({TERM: (SYMBOL,)} if slotted else {})}
        learning = replace(catalogue, commands=commands, negatives=negatives, terms=terms)
        return cls(catalogue, learning, (learn or Shortlist)(learning), written, slotted)

    def with_lists(self, lists: Mapping[str, Choices]) -> Index:
        """Return the index with the contents of ``lists`` replaced; nothing is learnt anew for that."""
        catalogue = self.catalogue.with_lists(lists)
        return replace(self, catalogue=catalogue, slotted=tuple(filter(has_slots, catalogue.commands)))

    def contrast(self, other: CommandCatalogue) -> tuple[Example, ...]:
        """Return the examples of this catalogue that those of ``other`` are most like, as of no command.

        Those of this catalogue's commands stay what they are. Of its examples of no command, those that
        ``other`` has for a command are left out: to this catalogue "open the wallet" asks for nothing, and
        it is what a wallet's catalogue is for.
        """
        found: dict[str, None] = {}
        claimed: set[str] = set()
        for example in other.examples():
            for near, likeness in self.shortlist.nearest(learnt(example), CONTRAST):
                found[near.text] = None
                if near.command is None and example.command is not None and likeness >= CLAIMED:
                    claimed.add(near.text)
        return tuple(Example(text, None) for text in found if text not in claimed)

    def match(
        self,
        said: Utterance,
        unavailable: Collection[str] = (),
        heard: Scores | None = None,
        trust: float = 0.0,
    ) -> Scores:
        """Compare an utterance with every example; ``heard`` is what a model adds to the scores. Where it is
        missing although another catalogue has it, with ``trust``, the model is taken to be of the same mind.

        A command that takes any name or words is believed by half for the words of the utterance and by half
        for its frame, in which the values are left out. What ``unavailable`` commands are like counts as
        being like none.
        """
        scores = dict(self.shortlist.match(said.text))
        none = none_of(scores)
        for text, commands in self._frames(said).items():
            framed = self.shortlist.match(text)
            shift = none - none_of(framed)
            for meaning, score in framed.items():
                if meaning.command in commands:
                    scores[meaning] = (scores[meaning] + score + shift) / 2
        if heard is None:
            scores = {meaning: score * (1 + trust) for meaning, score in scores.items()}
        else:
            scores = {meaning: score + heard.get(meaning, 0.0) for meaning, score in scores.items()}
        if unavailable:
            return _without(scores, unavailable)
        return scores

    def _frames(self, said: Utterance) -> dict[str, set[str]]:
        """The frames of the utterance, and the commands that each is meant for."""
        frames: dict[str, set[str]] = {}
        for command in self.slotted:
            text = frame(command, said)
            if text is not None and (text in frames or len(frames) < MAX_FRAMES):
                frames.setdefault(text, set()).add(command.id)
        return frames


def none_of(scores: Scores) -> float:
    """Return how like no command an utterance is, not less than 0."""
    return max(0.0, scores.get(Meaning(None), 0.0))


def _without(scores: Scores, unavailable: Collection[str]) -> dict[Meaning, float]:
    left = {meaning: score for meaning, score in scores.items() if meaning.command not in unavailable}
    gone = [score for meaning, score in scores.items() if meaning not in left]
    none = max([left.get(Meaning(None), 0.0), *gone])
    return {**left, Meaning(None): none}


def together(matches: Iterable[Scores]) -> Scores:
    """Return the scores of one utterance in several catalogues as one.

    Each catalogue knows its own near misses, so its scores mean something only beside its score for none.
    They are moved so that none scores alike everywhere: as in the catalogue that has the clearest command.
    """
    found = list(matches)
    if len(found) == 1:
        return found[0]
    nones = [none_of(match) for match in found]
    margins = [_best(match) - none for match, none in zip(found, nones, strict=True)]
    level = nones[margins.index(max(margins))]
    scores = {
        meaning: score + (level - none)
        for match, none in zip(found, nones, strict=True)
        for meaning, score in match.items()
    }
    scores[Meaning(None)] = level
    return scores


def _best(scores: Scores) -> float:
    return max((s for meaning, s in scores.items() if meaning.command is not None), default=-1.0)
