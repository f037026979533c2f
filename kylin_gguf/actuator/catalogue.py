"""The command catalogue: what a desktop can be asked to do, as data.

A catalogue is read from YAML by ``reader``; docs/command-catalogue.md describes the format. Catalogues
come from third parties, so nothing in one is trusted: it can name effects, never code.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from kylin_gguf.errors import CommandsInvalid, InvalidValue, UnknownOption, near

Language = Literal["zh", "en"]
LANGUAGES: tuple[Language, ...] = ("zh", "en")
Risk = Literal["safe", "confirm"]
Value = int | str
Arguments = Mapping[str, Value]
Action = Mapping[str, Any]
"""One step of an effect, such as ``{"kind": "launch", "program": "kylin-music", "args": ["-n"]}``, or
``{"any": [...]}``: the first of several that the desktop has.

A text ``<name>`` inside it stands for the argument of that name.
"""
UP, DOWN = "+", "-"


@dataclass(frozen=True)
class Example:
    """Something a user may say. ``command`` None: it asks for nothing here.

    ``forms`` says what the example implies for single arguments: an enum value's name, ``+``, ``-``, or
    ``number`` when it contains one.
    """

    text: str
    command: str | None
    forms: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class EnumValue:
    """One value of an enum argument, the phrases that mean it, and what it stands for when chosen."""

    name: str
    synonyms: tuple[str, ...] = ()
    kylin: str | None = None
    effect: tuple[Action, ...] = ()


@dataclass(frozen=True)
class EnumArgument:
    """An argument that is one of named values."""

    name: str
    values: tuple[EnumValue, ...]

    def check(self, value: object) -> str:
        """Return ``value``; raises InvalidValue unless it is one of the values' names."""
        names = [v.name for v in self.values]
        if not isinstance(value, str) or value not in names:
            raise InvalidValue(self.name, str(value)[:80], " or ".join(names))
        return value

    def value(self, name: str) -> EnumValue:
        """Return the value named ``name``, which must exist."""
        return next(v for v in self.values if v.name == name)

    def signature(self) -> str:
        """Return how the argument is shown to the model."""
        return f"{self.name}={'|'.join(v.name for v in self.values)}"


@dataclass(frozen=True)
class IntegerArgument:
    """A whole number, both ends included; ``relative`` ones also take ``+`` and ``-``: one ``step``."""

    name: str
    minimum: int
    maximum: int
    unit: str = ""
    relative: bool = False
    step: int = 1

    def check(self, value: object) -> Value:
        """Return ``value``; raises InvalidValue unless it is in range or an allowed direction."""
        if isinstance(value, int) and not isinstance(value, bool) and self.minimum <= value <= self.maximum:
            return value
        if self.relative and isinstance(value, str) and value in (UP, DOWN):
            return value
        steps = ", + or -" if self.relative else ""
        expected = f"a whole number from {self.minimum} to {self.maximum}{steps}"
        raise InvalidValue(self.name, str(value)[:80], expected)

    def signature(self) -> str:
        """Return how the argument is shown to the model."""
        return f"{self.name}={self.minimum}..{self.maximum}{'|+|-' if self.relative else ''}"


@dataclass(frozen=True)
class ChangeArgument:
    """A direction alone: ``+`` or ``-``."""

    name: str

    def check(self, value: object) -> str:
        """Return ``value``; raises InvalidValue unless it is a direction."""
        if not isinstance(value, str) or value not in (UP, DOWN):
            raise InvalidValue(self.name, str(value)[:80], "+ or -")
        return value

    def signature(self) -> str:
        """Return how the argument is shown to the model."""
        return f"{self.name}=+|-"


Argument = EnumArgument | IntegerArgument | ChangeArgument


@dataclass(frozen=True)
class Kylin:
    """The entry of openKylin's own command table that a command stands for."""

    name: str
    value: str

    def to_json(self) -> dict[str, str]:
        """Return the JSON object that kylin-actuator reads."""
        return {"name": self.name, "value": self.value}


@dataclass(frozen=True)
class Command:
    """One thing that can be asked for."""

    id: str
    description: Mapping[Language, str]
    arguments: tuple[Argument, ...]
    examples: tuple[Example, ...]
    effect: tuple[Action, ...] = ()
    risk: Risk = "safe"
    kylin_name: str = ""
    kylin_value: str = ""
    answer: Mapping[Language, str] = field(default_factory=dict)
    """What to say once it is done; ``<name>`` stands for an argument, ``<value>`` for the result's value."""

    def argument(self, name: str) -> Argument:
        """Return the argument ``name``; raises UnknownOption."""
        for argument in self.arguments:
            if argument.name == name:
                return argument
        raise UnknownOption(name, tuple(a.name for a in self.arguments))

    def check(self, arguments: Mapping[str, object]) -> dict[str, Value]:
        """Return ``arguments`` in declared order.

        Raises:
            UnknownOption: a name this command does not have.
            InvalidValue: a value outside its argument's range, or an argument missing.
        """
        for name in arguments:
            self.argument(name)
        for argument in self.arguments:
            if argument.name not in arguments:
                raise InvalidValue(argument.name, "", f"a value, as in {argument.signature()}")
        return {a.name: a.check(arguments[a.name]) for a in self.arguments}

    def values(self) -> list[EnumValue]:
        """Return every value that an argument can be chosen from."""
        return [v for a in self.arguments if isinstance(a, EnumArgument) for v in a.values]

    def _chosen(self, arguments: Arguments) -> list[EnumValue]:
        enums = [a for a in self.arguments if isinstance(a, EnumArgument)]
        return [a.value(str(arguments[a.name])) for a in enums]

    def kylin(self, arguments: Arguments) -> Kylin | None:
        """Return the entry of openKylin's table for checked ``arguments``, if there is one."""
        if not self.kylin_name:
            return None
        chosen = [v.kylin for v in self._chosen(arguments) if v.kylin is not None]
        return Kylin(self.kylin_name, chosen[0] if chosen else self.kylin_value)

    def actions(self, arguments: Arguments) -> tuple[Action, ...]:
        """Return what carries the command out, for checked ``arguments``; placeholders are left in."""
        return self.effect + tuple(action for v in self._chosen(arguments) for action in v.effect)

    def signature(self) -> str:
        """Return the command as it is shown to the model, such as ``volume.set level=0..100|+|-``."""
        return " ".join((self.id, *(a.signature() for a in self.arguments)))


def canonical(command_id: str, arguments: Arguments) -> str:
    """Return the one spelling of a command with its arguments: ``volume.set level=40``."""
    return " ".join((command_id, *(f"{name}={value}" for name, value in arguments.items())))


@dataclass(frozen=True)
class CommandCatalogue:
    """A set of commands, the examples of what asks for none of them, and the words for what they act on.

    ``terms`` maps a concept to phrases of either language that mean it: the bridge that lets an example in
    one language help an utterance in another.
    """

    name: str
    commands: tuple[Command, ...]
    negatives: tuple[Example, ...] = ()
    terms: Mapping[str, tuple[str, ...]] | None = None

    @cached_property
    def _by_id(self) -> dict[str, Command]:
        return {command.id: command for command in self.commands}

    def __contains__(self, command_id: object) -> bool:
        return command_id in self._by_id

    def get(self, command_id: str) -> Command:
        """Return the command ``command_id``; raises InvalidValue with near names."""
        try:
            return self._by_id[command_id]
        except KeyError:
            similar = near(command_id, self._by_id) or tuple(self._by_id)[:3]
            raise InvalidValue("command", command_id[:80], "one like " + ", ".join(similar)) from None

    def validate(self, command_id: str, arguments: Mapping[str, object]) -> dict[str, Value]:
        """Return checked ``arguments`` of ``command_id``; raises InvalidValue or UnknownOption."""
        return self.get(command_id).check(arguments)

    def examples(self) -> Iterable[Example]:
        """Yield every example, those of no command last."""
        for command in self.commands:
            yield from command.examples
        yield from self.negatives

    def merge(self, other: CommandCatalogue) -> CommandCatalogue:
        """Return both catalogues as one, under this one's name.

        Raises:
            CommandsInvalid: a command id is in both; nobody can replace another's command.
        """
        for command in other.commands:
            if command.id in self:
                raise CommandsInvalid(other.name, command.id, f"already a command of catalogue {self.name}")
        terms = dict(self.terms or {})
        for concept, phrases in (other.terms or {}).items():
            terms[concept] = tuple(dict.fromkeys((*terms.get(concept, ()), *phrases)))
        return CommandCatalogue(
            self.name, self.commands + other.commands, self.negatives + other.negatives, terms
        )
