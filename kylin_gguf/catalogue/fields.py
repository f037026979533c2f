"""A mapping of ``models.yaml`` as it is read: nothing is repaired or guessed, nothing is left over."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Final

from kylin_gguf.errors import CatalogueInvalid, near

REQUIRED: Final = object()
NAME: Final = r"[a-z0-9]+([.-][a-z0-9]+)*"
LINE: Final = r"\S(.*\S)?"


def hint(name: str, known: Collection[str]) -> str:
    """Return which of ``known`` may have been meant by ``name``, as the end of a sentence."""
    return f"; did you mean {' or '.join(near(name, known) or sorted(known))}?" if known else ""


class Fields:
    """A mapping being read: each key is taken once, and ``finish`` refuses those that are left."""

    def __init__(self, path: Path, where: str, value: Any) -> None:
        self.path = path
        self._where = where
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            raise self.refuse("is not a mapping of names to values")
        self._left: dict[str, Any] = dict(value)
        self._known: list[str] = []

    def __contains__(self, key: str) -> bool:
        return key in self._left

    def refuse(self, reason: str, key: str = "") -> CatalogueInvalid:
        """Return the error that says what is wrong with the mapping, or with one of its keys."""
        where = self._place(key) if key else self._where
        return CatalogueInvalid(str(self.path), where, reason)

    def _place(self, key: str) -> str:
        return key if self._where == "file" else f"{self._where}.{key}"

    def _take(self, key: str, default: Any = REQUIRED) -> Any:
        self._known.append(key)
        value = self._left.pop(key, default)
        if value is REQUIRED:
            raise self.refuse("is missing", key)
        return value

    def text(self, key: str, form: str, default: Any = REQUIRED, *, or_null: bool = False) -> str:
        """Return a text of the given form; with ``or_null``, "" for an explicit null."""
        value = self._take(key, default)
        if value is None and or_null:
            return ""
        if not isinstance(value, str) or not re.fullmatch(form, value):
            raise self.refuse(f"{value!r} does not have the form {form}", key)
        return value

    def number(self, key: str, *, or_null: bool = False) -> int:
        """Return a positive whole number; with ``or_null``, 0 for an explicit null."""
        value = self._take(key)
        if value is None and or_null:
            return 0
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise self.refuse(f"{value!r} is not a positive whole number", key)
        return value

    def flag(self, key: str, default: bool) -> bool:
        """Return true or false."""
        value = self._take(key, default)
        if not isinstance(value, bool):
            raise self.refuse(f"{value!r} is neither true nor false", key)
        return value

    def texts(self, key: str, form: str) -> tuple[str, ...]:
        """Return a list of one text or more, each of the given form."""
        value = self._take(key)
        if not isinstance(value, list) or not value:
            raise self.refuse("is not a list with at least one item", key)
        for item in value:
            if not isinstance(item, str) or not re.fullmatch(form, item):
                raise self.refuse(f"{item!r} does not have the form {form}", key)
        return tuple(value)

    def child(self, key: str) -> Fields:
        """Return the mapping under ``key``."""
        return Fields(self.path, self._place(key), self._take(key))

    def children(self, key: str) -> Iterator[Fields]:
        """Yield the mappings of a list, each placed by its name or its position."""
        value = self._take(key)
        if not isinstance(value, list):
            raise self.refuse("is not a list", key)
        for position, item in enumerate(value):
            name = item.get("name", position) if isinstance(item, dict) else position
            yield Fields(self.path, f"{self._place(key)}[{name}]", item)

    def finish(self) -> None:
        """Refuse what was not taken."""
        for key in self._left:
            raise self.refuse(f"unknown key{hint(key, self._known)}", key)
