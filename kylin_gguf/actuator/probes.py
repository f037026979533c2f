"""What a command needs to be there, as data: who carries commands out looks, and has the others left out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from kylin_gguf.actuator.node import Node

MAX_PROBES = 8
Probe = Mapping[str, str]
"""``{"kind": "dbus-name", "bus": "session", "name": …}``: a name that has an owner or can be activated.

``{"kind": "gsettings", "schema": …, "key": …}``: a schema that is installed and has the key; ``key`` may be
left out. ``{"kind": "program", "program": …}``: a program found on ``PATH``.
"""
Combination = Literal["all", "any"]

PROGRAM = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")  # found on PATH: a name, never a path
_BUS_NAME = re.compile(r"(?=.{3,}$)[A-Za-z_-][A-Za-z0-9_-]*(\.[A-Za-z_-][A-Za-z0-9_-]*)+")
_SCHEMA = re.compile(r"[A-Za-z][A-Za-z0-9.-]*")
_KEY = re.compile(r"[a-z][a-z0-9-]*")
# What each kind must and may say, and how it is written.
_KINDS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "dbus-name": (("bus", "name"), ()),
    "gsettings": (("schema",), ("key",)),
    "program": (("program",), ()),
}
_FORMS = {"name": _BUS_NAME, "schema": _SCHEMA, "key": _KEY, "program": PROGRAM}
_BUSES = ("session", "system")


@dataclass(frozen=True)
class Availability:
    """A command is available when ``all`` of ``probes`` find something, or when ``any`` does."""

    combination: Combination
    probes: tuple[Probe, ...]


def read(node: Node) -> Availability:
    """Return the availability at ``node``, a mapping with one key, ``all`` or ``any``.

    Raises:
        CommandsInvalid: it is something else.
    """
    given = node.record(("all", "any"))
    if len(given) != 1:
        node.fail("expected one key, 'all' or 'any'")
    combination: Combination = "all" if "all" in given else "any"
    return Availability(combination, tuple(_probe(p) for p in given[combination].sequence(MAX_PROBES)))


def _probe(node: Node) -> Probe:
    every = {key for must, may in _KINDS.values() for key in (*must, *may)}
    kind = node.record(("kind", *every), ("kind",))["kind"].choice(_KINDS)
    must, may = _KINDS[kind]
    probe = node.record(("kind", *must, *may), must)
    for key, entry in probe.items():
        if key in _FORMS:
            entry.text(_FORMS[key])
    if "bus" in probe:
        probe["bus"].choice(_BUSES)
    return {key: entry.value for key, entry in probe.items()}
