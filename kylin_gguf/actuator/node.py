"""A place in a catalogue: its value, and where it is, so that every refusal can say so."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NoReturn

from kylin_gguf.errors import CommandsInvalid, near

MAX_TEXT = 200
MAX_NUMBER = 1_000_000
WORD = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
_PRINTABLE = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]*")


@dataclass(frozen=True)
class Node:
    """A value of the parsed YAML at ``where``, in the catalogue ``catalogue``.

    Every method raises CommandsInvalid when the value is not what it asks for.
    """

    catalogue: str
    where: str
    value: Any

    def fail(self, reason: str) -> NoReturn:
        """Refuse this place."""
        raise CommandsInvalid(self.catalogue, self.where, reason)

    def _child(self, key: str | int, value: Any) -> Node:
        step = f"[{key}]" if isinstance(key, int) else f".{key}" if self.where else key
        return Node(self.catalogue, f"{self.where}{step}", value)

    def mapping(self, limit: int) -> dict[str, Node]:
        """Return the entries of a mapping with up to ``limit`` names of the author's choice."""
        if not isinstance(self.value, dict) or not all(isinstance(key, str) for key in self.value):
            self.fail("expected a mapping of names to values")
        if len(self.value) > limit:
            self.fail(f"more than {limit} entries")
        return {key: self._child(key, value) for key, value in self.value.items()}

    def record(self, known: Iterable[str], required: Iterable[str] = ()) -> dict[str, Node]:
        """Return the entries of a mapping whose names are all ``known`` and include ``required``."""
        names = tuple(known)
        entries = self.mapping(1 << 16)
        for name, entry in entries.items():
            if name not in names:
                entry.fail(f"unknown key; did you mean {', '.join(near(name, names) or names)}?")
        for name in required:
            if name not in entries:
                self.fail(f"'{name}' is missing")
        return entries

    def sequence(self, limit: int) -> list[Node]:
        """Return the items of a list that has 1 to ``limit``."""
        if not isinstance(self.value, list) or not 0 < len(self.value) <= limit:
            self.fail(f"expected a list of 1 to {limit} items")
        return [self._child(i, value) for i, value in enumerate(self.value)]

    def text(self, pattern: re.Pattern[str] = _PRINTABLE) -> str:
        """Return a text of 1 to MAX_TEXT characters that ``pattern`` describes in full."""
        value = self.value
        if not isinstance(value, str) or not 0 < len(value) <= MAX_TEXT or not pattern.fullmatch(value):
            self.fail(f"expected text of 1 to {MAX_TEXT} characters matching {pattern.pattern}")
        return value

    def integer(self) -> int:
        """Return a whole number of at most MAX_NUMBER either way."""
        value = self.value
        if not isinstance(value, int) or isinstance(value, bool) or abs(value) > MAX_NUMBER:
            self.fail(f"expected a whole number up to {MAX_NUMBER}")
        return value

    def number(self) -> float:
        """Return a number of at most MAX_NUMBER either way."""
        value = self.value
        if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) <= MAX_NUMBER:
            self.fail(f"expected a number up to {MAX_NUMBER}")
        return float(value)

    def choice(self, choices: Iterable[str]) -> str:
        """Return one of ``choices``."""
        known = tuple(choices)
        if not isinstance(self.value, str) or self.value not in known:
            self.fail(f"expected {' or '.join(known)}")
        return self.value
