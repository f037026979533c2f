"""Utterance → a command of the catalogue, or none.

The answer is always a member of the closed set that ``candidates`` enumerates. A model writes nothing: what
it makes of the utterance shifts weight within that set (``readout``), so no model can make an invalid
command, and one that does not understand the catalogue's own examples is hardly listened to.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from kylin_gguf.actuator.arguments import Arguments
from kylin_gguf.actuator.candidates import Candidate, enumerate_candidates
from kylin_gguf.actuator.catalogue import CommandCatalogue, Kylin
from kylin_gguf.actuator.collection import Collection
from kylin_gguf.actuator.index import Learner, none_of
from kylin_gguf.actuator.offer import Offer
from kylin_gguf.actuator.shortlist import Scores
from kylin_gguf.actuator.study import HiddenStates, Study
from kylin_gguf.actuator.wording import normalise, spoken
from kylin_gguf.errors import InvalidValue
from kylin_gguf.records import ProgressCallback

DecidedBy = Literal["lexical", "model"]

MAX_UTTERANCE = 300
"""Characters: about a minute of speech, and a bound on the prompt."""
CANDIDATES = 8
ALTERNATIVES = 3

# How scores become beliefs. Fitted without a model (bench/actuator_dev.py) on 120 labelled rows, of which 30
# are near misses, when the catalogue had 1700 examples. With its 8000 they understand 87 of the 90 requests
# and act on 1 near miss; of bench/data/commands-check.jsonl, which nothing was fitted on, 299 of 320 and 13
# of 160. More NONE_BIAS trades the one for the other: before numbers and spelling were read better, 0.05,
# 0.1, 0.2 and 0.3 gave 291, 289, 284 and 276 requests there for 17, 15, 10 and 6 false ones.
SCORE_WEIGHT = 10.0
NONE_BIAS = 0.1
MIN_BELIEF = 0.4
VALUE_SHARE = 0.5
"""A value must hold this share of its command's belief; else which one is meant is open."""

# Where the examples decide alone: a sure belief from a close example. This settles 93 of the 120 rows above,
# all correctly, and 342 of the 480 of the check set, 3 of them wrongly (docs/understanding.md has the curve).
SURE_BELIEF = 0.95
SURE_SCORE = 0.6
SURE_WITH_WORDS = 0.5
"""Where examples are compared by what words mean, too: a command with its arguments, or none, is more likely
than all else together."""


@dataclass(frozen=True)
class Choice:
    """A command that the utterance may have meant, with its share of the belief."""

    command: str
    arguments: Arguments
    confidence: float

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object."""
        return {
            "command": self.command,
            "arguments": dict(self.arguments),
            "confidence": round(self.confidence, 4),
        }


@dataclass(frozen=True)
class Interpretation:
    """What an utterance means. ``command`` None: it asks for nothing the catalogue has.

    ``confidence`` is the belief in the answer given, be it a command or none. ``confirm``: ask the user
    before carrying it out. ``ms`` are milliseconds: ``shortlist``, ``model`` and ``total``.
    """

    command: str | None
    arguments: Arguments
    kylin: Kylin | None
    confidence: float
    confirm: bool
    alternatives: tuple[Choice, ...]
    decided_by: DecidedBy
    ms: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object that the command line and the bus give out."""
        return {
            "command": self.command,
            "arguments": dict(self.arguments),
            "kylin": self.kylin.to_json() if self.kylin else None,
            "confidence": round(self.confidence, 4),
            "confirm": self.confirm,
            "alternatives": [choice.to_json() for choice in self.alternatives],
            "decided_by": self.decided_by,
            "ms": {stage: round(value, 2) for stage, value in self.ms.items()},
        }


class Interpreter:
    """Interprets utterances against ``collection``. Cheap to make: the first use trains the shortlist."""

    def __init__(
        self,
        catalogue: CommandCatalogue | Collection,
        learn: Learner | None = None,
        study: Study | None = None,
    ) -> None:
        """A ``catalogue`` alone makes a collection of its own, which ``learn`` is for. ``study`` is where
        models learn the commands; without one, none is ever asked."""
        self.collection = catalogue if isinstance(catalogue, Collection) else Collection(catalogue, learn)
        self._study = study

    async def prewarm(self, model: HiddenStates) -> None:
        """Train the shortlist, and have ``model`` read what all utterances come behind, or begin to learn.

        Raises:
            KylinError: whatever ``model`` raises.
        """
        offer = await self._rehearsed()
        if self._study:
            await self._study.hear(offer.indexes, "", model)

    async def recall(self, model: HiddenStates) -> None:
        """Do as ``prewarm``, behind whoever waits for ``model``; it begins to learn nothing.

        Raises:
            KylinError: whatever ``model`` raises.
        """
        offer = await self._rehearsed()
        if self._study:
            await self._study.recall(offer.indexes, model)

    async def learn(self, model: HiddenStates, progress: ProgressCallback) -> None:
        """Have ``model`` learn the commands, and wait until it knows them.

        Raises:
            KylinError: whatever ``model`` raises.
        """
        offer = await self.collection.ready()
        if self._study:
            await self._study.learn(offer.indexes, model, progress)

    async def interpret(self, utterance: str, model: HiddenStates | None = None) -> Interpretation:
        """Return what ``utterance`` means; ``model`` is asked only where the examples leave doubt, and only
        once it has learnt the commands.

        Raises:
            InvalidValue: the utterance is empty or too long.
            KylinError: whatever ``model`` raises.
        """
        text = normalise(utterance)
        if not text or len(text) > MAX_UTTERANCE:
            raise InvalidValue("utterance", utterance[:80], f"text of 1 to {MAX_UTTERANCE} characters")
        offer = await self.collection.ready()
        started = time.perf_counter()
        decided_by: DecidedBy = "lexical"
        candidates, beliefs = _weigh(offer, utterance, text, offer.match(text))
        shortlisted = time.perf_counter()
        if self._study and model and candidates and not _sure(offer, candidates, beliefs):
            heard = await self._study.hear(offer.indexes, text, model)
            if heard:
                scores, bias = offer.match(text, heard), NONE_BIAS * (1 + heard.trust)
                candidates, beliefs = _weigh(offer, utterance, text, scores, bias)
                decided_by = "model"
        ended = time.perf_counter()
        ms = {"shortlist": shortlisted - started, "model": ended - shortlisted, "total": ended - started}
        return self._decide(offer, candidates, beliefs, decided_by, {k: 1000 * v for k, v in ms.items()})

    async def _rehearsed(self) -> Offer:
        """Return what is on offer, after one utterance that nobody waits for: the first one takes twice the
        time of the next, until caches are filled and pages of memory are there."""
        offer = await self.collection.ready()
        example = next(iter(offer.catalogue.examples()), None)
        if example:
            await self.interpret(example.text)
        return offer

    async def close(self) -> None:
        """Stop learning."""
        await self.collection.close()
        if self._study:
            await self._study.close()

    def _decide(
        self,
        offer: Offer,
        candidates: Sequence[Candidate],
        beliefs: Sequence[float],
        decided_by: DecidedBy,
        ms: Mapping[str, float],
    ) -> Interpretation:
        """``beliefs`` are those of ``candidates``, in order, then that of none.

        The values of one command stand together against the other commands and against none; which value
        it is comes second. Otherwise a well-understood "bluetooth" would lose for want of an on or off.
        """
        choices = [Choice(c.command, c.arguments, b) for c, b in zip(candidates, beliefs, strict=False)]
        together: dict[str, float] = {}
        for choice in choices:
            together[choice.command] = together.get(choice.command, 0.0) + choice.confidence
        choices.sort(key=lambda choice: (-together[choice.command], choice.command, -choice.confidence))
        if not choices or not self._accepted(choices[0], together[choices[0].command], beliefs[-1]):
            others = tuple(choices[:ALTERNATIVES])
            return Interpretation(None, {}, None, beliefs[-1], False, others, decided_by, ms)
        best, others = choices[0], tuple(choices[1 : 1 + ALTERNATIVES])
        arguments = offer.catalogue.validate(best.command, best.arguments)
        command = offer.catalogue.get(best.command)
        return Interpretation(
            command.id,
            arguments,
            command.kylin(arguments),
            best.confidence,
            command.risk == "confirm",
            others,
            decided_by,
            ms,
        )

    @staticmethod
    def _accepted(best: Choice, together: float, none: float) -> bool:
        return together >= max(MIN_BELIEF, none) and best.confidence >= VALUE_SHARE * together


def _sure(offer: Offer, candidates: Sequence[Candidate], beliefs: Sequence[float]) -> bool:
    """Whether the examples leave no doubt: none is meant, or a command that one of them is close to."""
    if offer.knows_words:
        return max(beliefs) >= SURE_WITH_WORDS
    command = max(zip(beliefs, candidates, strict=False), key=lambda pair: pair[0])
    return beliefs[-1] >= SURE_BELIEF or (command[0] >= SURE_BELIEF and command[1].score >= SURE_SCORE)


def _weigh(
    offer: Offer, utterance: str, text: str, scores: Scores, none_bias: float = NONE_BIAS
) -> tuple[Sequence[Candidate], Sequence[float]]:
    """Return the candidates, and the beliefs in them and then in none."""
    candidates = enumerate_candidates(offer.catalogue, text, scores, CANDIDATES, spoken(utterance))
    none = none_of(scores) + none_bias
    return candidates, softmax([SCORE_WEIGHT * score for score in (*(c.score for c in candidates), none)])


def softmax(evidence: Sequence[float]) -> list[float]:
    """Return ``evidence`` (finite) as beliefs that sum to 1."""
    top = max(evidence)
    weights = [math.exp(value - top) for value in evidence]
    total = sum(weights)
    return [weight / total for weight in weights]
