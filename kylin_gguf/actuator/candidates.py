"""The closed set that an utterance may mean: commands with arguments read out of the utterance.

Nothing outside this set can be the answer, and every member passes ``CommandCatalogue.validate``.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from kylin_gguf.actuator.catalogue import (
    DOWN,
    UP,
    Argument,
    Arguments,
    ChangeArgument,
    Command,
    CommandCatalogue,
    EnumArgument,
    IntegerArgument,
    Value,
    canonical,
)
from kylin_gguf.actuator.features import TermMatcher
from kylin_gguf.actuator.quantities import Quantities, read
from kylin_gguf.actuator.shortlist import Match, Meaning

# A value whose own words are in the utterance, against one whose words are not. Small beside an example
# that says otherwise: "don't lock" contains "lock". Fitted with shortlist's constants.
SAID = 0.06
MAX_COMBINATIONS = 64


@dataclass(frozen=True)
class Candidate:
    """A command that is valid by construction, and how well the catalogue's examples support it."""

    command: str
    arguments: Arguments
    score: float

    @property
    def text(self) -> str:
        """The canonical spelling, which is what the model scores."""
        return canonical(self.command, self.arguments)


@dataclass(frozen=True)
class _Choice:
    """A value for one argument: its ``form`` ties it to labelled examples, ``evidence`` adds to the score."""

    name: str
    value: Value
    form: str
    evidence: float = 0.0


def _directions(name: str, quantities: Quantities) -> list[_Choice]:
    """Both ways unless the utterance names just one; the examples then speak for the rest."""
    said = quantities.directions
    return [
        _Choice(name, d, d, SAID if d in said else 0.0) for d in (UP, DOWN) if len(said) != 1 or d in said
    ]


def _integer_choices(argument: IntegerArgument, quantities: Quantities) -> list[_Choice]:
    values = quantities.values(argument.minimum, argument.maximum)
    if values or not argument.relative:
        return [_Choice(argument.name, value, "number", SAID) for value in values]
    # A number out of range is no wish for "a little more".
    if any(not number.delta for number in quantities.numbers):
        return []
    return _directions(argument.name, quantities)


@lru_cache(maxsize=1024)
def _matcher(synonyms: tuple[tuple[str, tuple[str, ...]], ...]) -> TermMatcher:
    return TermMatcher(dict(synonyms))


def _enum_choices(argument: EnumArgument, text: str) -> list[_Choice]:
    said = set(_matcher(tuple((value.name, value.synonyms) for value in argument.values)).find(text))
    return [_Choice(argument.name, v.name, v.name, SAID if v.name in said else 0.0) for v in argument.values]


def _choices(argument: Argument, text: str, quantities: Quantities) -> list[_Choice]:
    match argument:
        case IntegerArgument():
            return _integer_choices(argument, quantities)
        case ChangeArgument():
            return _directions(argument.name, quantities)
        case EnumArgument():
            return _enum_choices(argument, text)


def _support(choices: Sequence[_Choice], meanings: Sequence[tuple[Meaning, float]]) -> float | None:
    """Best score among the meanings that do not contradict ``choices``; None if all do."""
    forms = {(choice.name, choice.form) for choice in choices}
    scores = [score for meaning, score in meanings if forms.issuperset(meaning.forms)]
    return max(scores) + sum(choice.evidence for choice in choices) if scores else None


def _of_command(
    command: Command, text: str, quantities: Quantities, meanings: Sequence[tuple[Meaning, float]]
) -> list[Candidate]:
    per_argument = [_choices(argument, text, quantities) for argument in command.arguments]
    found = []
    for choices in itertools.islice(itertools.product(*per_argument), MAX_COMBINATIONS):
        score = _support(choices, meanings)
        if score is not None:
            found.append(Candidate(command.id, {c.name: c.value for c in choices}, score))
    return found


def enumerate_candidates(catalogue: CommandCatalogue, text: str, match: Match, limit: int) -> list[Candidate]:
    """Return the ``limit`` best supported candidates for normalised ``text``, best first.

    A command with an argument that the utterance gives no value for has none.
    """
    quantities = read(text)
    by_command: dict[str, list[tuple[Meaning, float]]] = {}
    for meaning, score in match.scores.items():
        if meaning.command is not None:
            by_command.setdefault(meaning.command, []).append((meaning, score))
    found = [
        candidate
        for command_id, meanings in by_command.items()
        for candidate in _of_command(catalogue.get(command_id), text, quantities, meanings)
    ]
    return sorted(found, key=lambda c: (-c.score, c.text))[:limit]
