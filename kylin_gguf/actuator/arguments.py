"""The types of a command's arguments: which values each one takes, and how it is shown to the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kylin_gguf.actuator.choices import Choices
from kylin_gguf.errors import InvalidValue

Value = int | float | str
Arguments = Mapping[str, Value]
Action = Mapping[str, Any]
"""One step of an effect, such as ``{"kind": "launch", "program": "kylin-music", "args": ["-n"]}``, or
``{"any": [...]}``: the first of several that the desktop has.

A text ``<name>`` inside it stands for the argument of that name.
"""
UP, DOWN = "+", "-"
NUMBER = "number"
"""The form of an example that contains a number in the argument's range."""
MAX_ARGUMENTS = 4
"""Of one command."""
SHOWN = 80
"""Characters of a refused value that an error repeats."""


def slot(name: str) -> str:
    """Return what stands in an example for any value of a choice or text argument; also its form."""
    return f"<{name}>"


@dataclass(frozen=True)
class _Typed:
    """What the types have in common. ``name`` is unique within a command."""

    name: str

    def accepts(self) -> str:
        """Return the values in short, such as ``0..100|+|-``."""
        raise NotImplementedError

    def signature(self) -> str:
        """Return how the argument is shown to the model."""
        return f"{self.name}={self.accepts()}"


@dataclass(frozen=True)
class EnumValue:
    """One value of an enum argument, the phrases that mean it, and what it stands for when chosen."""

    name: str
    synonyms: tuple[str, ...] = ()
    kylin: str | None = None
    effect: tuple[Action, ...] = ()


@dataclass(frozen=True)
class EnumArgument(_Typed):
    """An argument that is one of named values."""

    values: tuple[EnumValue, ...]

    def check(self, value: object) -> str:
        """Return ``value``; raises InvalidValue unless it is one of the values' names."""
        names = [v.name for v in self.values]
        if not isinstance(value, str) or value not in names:
            raise InvalidValue(self.name, str(value)[:SHOWN], " or ".join(names))
        return value

    def value(self, name: str) -> EnumValue:
        """Return the value named ``name``, which must exist."""
        return next(v for v in self.values if v.name == name)

    def accepts(self) -> str:
        """Return the names of the values."""
        return "|".join(v.name for v in self.values)


def _is_direction(value: object) -> bool:
    return isinstance(value, str) and value in (UP, DOWN)


@dataclass(frozen=True)
class IntegerArgument(_Typed):
    """A whole number, both ends included; ``relative`` ones also take ``+`` and ``-``: one ``step``."""

    minimum: int
    maximum: int
    unit: str = ""
    relative: bool = False
    step: int = 1

    def check(self, value: object) -> Value:
        """Return ``value``; raises InvalidValue unless it is in range or an allowed direction."""
        if isinstance(value, int) and not isinstance(value, bool) and self.minimum <= value <= self.maximum:
            return value
        if self.relative and isinstance(value, str) and _is_direction(value):
            return value
        steps = ", + or -" if self.relative else ""
        expected = f"a whole number from {self.minimum} to {self.maximum}{steps}"
        raise InvalidValue(self.name, str(value)[:SHOWN], expected)

    def accepts(self) -> str:
        """Return the range, and the directions where they are allowed."""
        return f"{self.minimum}..{self.maximum}{'|+|-' if self.relative else ''}"


@dataclass(frozen=True)
class NumberArgument(_Typed):
    """A decimal number, both ends included; ``relative`` ones also take ``+`` and ``-``: one ``step``."""

    minimum: float
    maximum: float
    unit: str = ""
    relative: bool = False
    step: float = 1.0

    def check(self, value: object) -> Value:
        """Return ``value`` as a float; raises InvalidValue unless it is in range or an allowed direction."""
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if number and self.minimum <= value <= self.maximum:  # type: ignore[operator]  # not a number: false
            return float(value)  # type: ignore[arg-type]
        if self.relative and isinstance(value, str) and _is_direction(value):
            return value
        steps = ", + or -" if self.relative else ""
        expected = f"a number from {self.minimum:g} to {self.maximum:g}{steps}"
        raise InvalidValue(self.name, str(value)[:SHOWN], expected)

    def accepts(self) -> str:
        """Return the range, and the directions where they are allowed."""
        return f"{self.minimum:g}..{self.maximum:g}{'|+|-' if self.relative else ''}"


@dataclass(frozen=True)
class ChangeArgument(_Typed):
    """A direction alone: ``+`` or ``-``."""

    def check(self, value: object) -> str:
        """Return ``value``; raises InvalidValue unless it is a direction."""
        if not isinstance(value, str) or not _is_direction(value):
            raise InvalidValue(self.name, str(value)[:SHOWN], "+ or -")
        return value

    def accepts(self) -> str:
        """Return both directions."""
        return "+|-"


@dataclass(frozen=True)
class ChoiceArgument(_Typed):
    """One of a list that changes while the catalogue stands, such as the installed applications.

    ``source`` is the list's name in the catalogue, ``choices`` what it holds now.
    """

    source: str
    choices: Choices

    def check(self, value: object) -> str:
        """Return ``value``; raises InvalidValue unless it is in the list now."""
        if not isinstance(value, str) or value not in self.choices:
            raise InvalidValue(self.name, str(value)[:SHOWN], f"an entry of the list {self.source}")
        return value

    def accepts(self) -> str:
        """Return the list's name: its entries may be many."""
        return slot(self.source)


@dataclass(frozen=True)
class TextArgument(_Typed):
    """Words of the user's own: a piece of the utterance of at most ``limit`` characters."""

    limit: int

    def check(self, value: object) -> str:
        """Return ``value``; raises InvalidValue unless this argument can have it."""
        if not isinstance(value, str) or not self.allows(value):
            expected = f"one line of 1 to {self.limit} characters that begins with no hyphen"
            raise InvalidValue(self.name, str(value)[:SHOWN], expected)
        return value

    def allows(self, text: str) -> bool:
        """Whether ``text`` is one line of the length allowed, with no space at an end.

        A leading hyphen is refused, so that no program takes the text for an option.
        """
        inside = 0 < len(text) <= self.limit and text == text.strip()
        return inside and text.isprintable() and not text.startswith("-")

    def accepts(self) -> str:
        """Return a word for any text."""
        return "text"


NumericArgument = IntegerArgument | NumberArgument
Argument = EnumArgument | NumericArgument | ChangeArgument | ChoiceArgument | TextArgument
