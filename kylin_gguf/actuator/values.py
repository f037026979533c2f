"""The values that an utterance gives an argument: read out of it, or members of a closed set.

One function for each type of argument. No model is asked, so nothing a model says can become a value.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

from kylin_gguf.actuator.arguments import (
    DOWN,
    NUMBER,
    UP,
    Argument,
    ChangeArgument,
    ChoiceArgument,
    EnumArgument,
    IntegerArgument,
    NumberArgument,
    NumericArgument,
    TextArgument,
    Value,
    slot,
)
from kylin_gguf.actuator.choices import Choices, Found
from kylin_gguf.actuator.features import TermMatcher
from kylin_gguf.actuator.patterns import Spans
from kylin_gguf.actuator.quantities import Quantities, read

# A value whose own words are in the utterance, against one whose words are not. Small beside an example
# that says otherwise: "don't lock" contains "lock". Fitted with shortlist's constants.
SAID = 0.06


@dataclass(frozen=True)
class Choice:
    """A value for one argument: its ``form`` ties it to labelled examples, ``evidence`` adds to the score."""

    name: str
    value: Value
    form: str
    evidence: float = 0.0


class Utterance:
    """What is read out of one utterance, for all commands: ``text`` is its normal form.

    ``spoken`` is the same with the case of letters kept, of the same length.
    """

    def __init__(self, text: str, spoken: str = "") -> None:
        self.text = text
        self.spoken = spoken if len(spoken) == len(text) else text
        self._found: dict[int, list[Found]] = {}

    @cached_property
    def quantities(self) -> Quantities:
        """Its numbers and directions."""
        return read(self.text)

    def entries(self, choices: Choices) -> list[Found]:
        """Return where it names entries of ``choices``, which many commands may share."""
        found = self._found.get(id(choices))
        if found is None:
            found = self._found[id(choices)] = choices.find(self.text)
        return found


def choices(argument: Argument, said: Utterance, spans: Spans) -> list[Choice]:
    """Return the values that ``argument`` may have; ``spans`` are where the text arguments stand."""
    match argument:
        case IntegerArgument() | NumberArgument():
            return _numeric(argument, said.quantities)
        case ChangeArgument():
            return _directions(argument.name, said.quantities)
        case EnumArgument():
            return _enum(argument, said.text)
        case ChoiceArgument():
            return _entries(argument, said, spans)
        case TextArgument():
            return _text(argument, said, spans)


def numbers(argument: NumericArgument, quantities: Quantities) -> tuple[int, ...] | tuple[float, ...]:
    """Return the numbers that ``argument`` may have."""
    if isinstance(argument, IntegerArgument):
        return quantities.values(argument.minimum, argument.maximum, argument.unit)
    return quantities.decimals(argument.minimum, argument.maximum, argument.unit)


def _numeric(argument: NumericArgument, quantities: Quantities) -> list[Choice]:
    found = numbers(argument, quantities)
    if found or not argument.relative:
        return [Choice(argument.name, value, NUMBER, SAID) for value in found]
    # A number out of range is no wish for "a little more".
    if any(not number.delta for number in quantities.numbers):
        return []
    return _directions(argument.name, quantities)


def _directions(name: str, quantities: Quantities) -> list[Choice]:
    """Both ways unless the utterance names just one; the examples then speak for the rest."""
    said = quantities.directions
    return [Choice(name, d, d, SAID if d in said else 0.0) for d in (UP, DOWN) if len(said) != 1 or d in said]


@lru_cache(maxsize=1024)
def _matcher(synonyms: tuple[tuple[str, tuple[str, ...]], ...]) -> TermMatcher:
    return TermMatcher(dict(synonyms))


def _enum(argument: EnumArgument, text: str) -> list[Choice]:
    said = set(_matcher(tuple((value.name, value.synonyms) for value in argument.values)).find(text))
    return [Choice(argument.name, v.name, v.name, SAID if v.name in said else 0.0) for v in argument.values]


def _entries(argument: ChoiceArgument, said: Utterance, spans: Spans) -> list[Choice]:
    """Entries named outside of the text arguments: what is searched for is no application to open."""
    named = [f for f in said.entries(argument.choices) if not within(f, spans)]
    entries = dict.fromkeys(entry for found in named for entry in found.entries)
    return [Choice(argument.name, entry, slot(argument.name), SAID) for entry in entries]


def within(found: Found, spans: Spans) -> bool:
    """Whether ``found`` lies in one of ``spans``."""
    return any(start <= found.start and found.end <= end for start, end in spans.values())


def _text(argument: TextArgument, said: Utterance, spans: Spans) -> list[Choice]:
    start, end = spans[argument.name]
    piece = said.spoken[start:end]
    return [Choice(argument.name, piece, slot(argument.name), SAID)] if argument.allows(piece) else []
