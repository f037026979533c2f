"""The command catalogue: what a desktop can be asked to do, as data.

A catalogue is read from YAML by ``reader``; docs/command-catalogue.md describes the format. Catalogues
come from third parties, so nothing in one is trusted: it can name effects, never code.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

from kylin_gguf.actuator.arguments import (
    Action,
    Argument,
    Arguments,
    ChoiceArgument,
    EnumArgument,
    EnumValue,
    Value,
)
from kylin_gguf.actuator.choices import Choices
from kylin_gguf.actuator.patterns import Pattern
from kylin_gguf.actuator.probes import Availability
from kylin_gguf.errors import CommandsInvalid, InvalidValue, UnknownOption, near

Language = Literal["zh", "en"]
LANGUAGES: tuple[Language, ...] = ("zh", "en")
Risk = Literal["safe", "confirm"]


@dataclass(frozen=True)
class Example:
    """Something a user may say. ``command`` None: it asks for nothing here.

    ``forms`` says what the example implies for single arguments: an enum value's name, ``+``, ``-``,
    ``number`` when it contains one, or ``<name>`` when that stands in it for any value of a choice or text.
    """

    text: str
    command: str | None
    forms: tuple[tuple[str, str], ...] = ()


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
    patterns: tuple[Pattern, ...] = ()
    """Where text arguments stand in an utterance."""
    availability: Availability | None = None
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

    def with_lists(self, lists: Mapping[str, Choices]) -> Command:
        """Return the command with choice arguments that draw from ``lists``."""
        arguments = tuple(
            replace(a, choices=lists.get(a.source, a.choices)) if isinstance(a, ChoiceArgument) else a
            for a in self.arguments
        )
        return replace(self, arguments=arguments)

    def renamed(self, command_id: str) -> Command:
        """Return the command, and its examples, under another id."""
        examples = tuple(replace(example, command=command_id) for example in self.examples)
        return replace(self, id=command_id, examples=examples)

    def to_json(self) -> dict[str, object]:
        """Return what a program needs to offer the command, as a JSON object."""
        return {
            "id": self.id,
            "description": dict(self.description),
            "arguments": [{"name": a.name, "accepts": a.accepts()} for a in self.arguments],
            "confirm": self.risk == "confirm",
        }

    def signature(self) -> str:
        """Return the command as it is shown to people and models, such as ``volume.set level=0..100|+|-``."""
        return " ".join((self.id, *(a.signature() for a in self.arguments)))


def canonical(command_id: str, arguments: Arguments) -> str:
    """Return the one spelling of a command with its arguments: ``volume.set level=40``."""
    return " ".join((command_id, *(f"{name}={_spelled(value)}" for name, value in arguments.items())))


def _spelled(value: Value) -> str:
    return f"{value:.10g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class CommandCatalogue:
    """A set of commands, the examples of what asks for none of them, and the words for what they act on.

    ``terms`` maps a concept to phrases of either language that mean it: the bridge that lets an example in
    one language help an utterance in another. ``lists`` are what choice arguments draw from.
    """

    name: str
    commands: tuple[Command, ...]
    negatives: tuple[Example, ...] = ()
    terms: Mapping[str, tuple[str, ...]] | None = None
    lists: Mapping[str, Choices] | None = None

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
        lists = dict(self.lists or {})
        for name, choices in (other.lists or {}).items():
            lists[name] = lists[name].merge(choices) if name in lists else choices
        commands, negatives = self.commands + other.commands, self.negatives + other.negatives
        return CommandCatalogue(self.name, commands, negatives, terms, lists).with_lists(lists)

    def with_lists(self, lists: Mapping[str, Choices]) -> CommandCatalogue:
        """Return the catalogue with the contents of ``lists``, by name, replaced."""
        commands = tuple(command.with_lists(lists) for command in self.commands)
        return replace(self, commands=commands, lists={**(self.lists or {}), **lists})

    def namespaced(self) -> CommandCatalogue:
        """Return the catalogue with its name before the id of each command: ``music/volume.set``."""
        commands = tuple(command.renamed(f"{self.name}/{command.id}") for command in self.commands)
        return replace(self, commands=commands)
