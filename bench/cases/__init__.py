"""The cases. Each module of a folder holds one, as ``CASE``, named after folder and module."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence
from fnmatch import fnmatchcase

from bench.case import Case
from bench.cases import actuator, convert, engine, service
from kylin_gguf.errors import near

FOLDERS = (actuator, convert, engine, service)


def every() -> dict[str, Case]:
    """Return all cases by name."""
    found: list[Case] = []
    for folder in FOLDERS:
        for module in pkgutil.iter_modules(folder.__path__, f"{folder.__name__}."):
            found.append(importlib.import_module(module.name).CASE)
    return {case.name: case for case in sorted(found, key=lambda case: case.name)}


def named(patterns: Sequence[str]) -> list[Case]:
    """Return the cases that ``patterns`` name; ``*`` stands for any text.

    Raises:
        SystemExit: a pattern names none.
    """
    cases = every()
    chosen: dict[str, Case] = {}
    for pattern in patterns:
        matching = {name: case for name, case in cases.items() if fnmatchcase(name, pattern)}
        if not matching:
            hint = ", ".join(near(pattern, tuple(cases))) or ", ".join(cases)
            raise SystemExit(f"there is no case {pattern}; did you mean {hint}?")
        chosen |= matching
    return list(chosen.values())
