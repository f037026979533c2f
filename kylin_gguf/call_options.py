"""The options of a call, a mapping that any program may fill: names that are known, values of their type."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from kylin_gguf.errors import InvalidValue, UnknownOption


def refuse_unknown(options: Mapping[str, Any], known: Collection[str]) -> None:
    """Raise UnknownOption for a name that is not ``known``."""
    for name in options:
        if name not in known:
            raise UnknownOption(name, tuple(known))


def text(options: Mapping[str, Any], name: str, default: str = "") -> str:
    """Return the option ``name``; raises InvalidValue unless it is text."""
    value = options.get(name, default)
    if not isinstance(value, str):
        raise InvalidValue(name, repr(value)[:80], "text")
    return value


def flag(options: Mapping[str, Any], name: str, *, default: bool = False) -> bool:
    """Return the option ``name``; raises InvalidValue unless it is true or false."""
    value = options.get(name, default)
    if not isinstance(value, bool):
        raise InvalidValue(name, repr(value)[:80], "true or false")
    return value
