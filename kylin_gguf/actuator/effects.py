"""What carries a command out, as data. A catalogue names known kinds of step and never a line of shell."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from kylin_gguf.actuator.arguments import Action
from kylin_gguf.actuator.node import Node
from kylin_gguf.errors import near

MAX_STEPS = 8
MAX_ARGS = 16
MAX_DIVISOR = 1000
ALTERNATIVES = "any"
# What each kind of step must and may say.
_KINDS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "dbus": (("bus", "dest", "path", "method"), ("args", "current", "divisor")),
    "dbus-property": (("bus", "dest", "path", "property", "op"), ("value", "divisor")),
    "gsettings": (("op", "schema", "key"), ("value", "divisor")),
    "launch": (("program",), ("args",)),
    "application": (("id",), ()),
    "settings-page": (("page",), ()),
    "kylin-actuator": (("instruction",), ()),
}
_CHOICES: Mapping[str, tuple[str, ...]] = {"bus": ("session", "system"), "op": ("get", "set")}
_PLACEHOLDER = re.compile(r"<([^<>]*)>")
_MEMBER = r"[A-Za-z_][A-Za-z0-9_]*"
_PATTERNS: Mapping[str, re.Pattern[str]] = {
    "program": re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*"),  # found on PATH: a name, never a path
    "dest": re.compile(r"[A-Za-z_-][A-Za-z0-9_-]*(?:\.[A-Za-z_-][A-Za-z0-9_-]*)+"),
    "path": re.compile(r"/|(?:/[A-Za-z0-9_]+)+(?:/\*)?"),
    "method": re.compile(rf"{_MEMBER}(?:\.{_MEMBER})+"),
    "current": re.compile(rf"{_MEMBER}(?:\.{_MEMBER})+"),
    "property": re.compile(rf"{_MEMBER}(?:\.{_MEMBER})+"),
    "schema": re.compile(r"[A-Za-z][A-Za-z0-9.-]*"),
    "key": re.compile(r"[a-z][a-z0-9-]*"),
    "page": re.compile(r"[A-Za-z][A-Za-z ]*"),
}

# The program kylin-actuator gives an instruction that it does not know to a shell. So it only ever gets these
# ones, word for word; nothing that a user, a model or a catalogue has written is put into them.
INSTRUCTIONS = (
    "screenshot",
    "suspend",
    "restart",
    "shutdown",
    "open bluetooth",
    "close bluetooth",
    "open network",
    "close network",
    "open globalsearch",
    "set dark",
    "set light",
)


def read(node: Node, arguments: Collection[str]) -> tuple[Action, ...]:
    """Return the steps at ``node``; placeholders may name ``arguments`` only. Raises CommandsInvalid."""
    return tuple(_step(step, arguments) for step in node.sequence(MAX_STEPS))


def alternatives(step: Action) -> tuple[Action, ...]:
    """Return the ways in which ``step`` can be carried out, best first."""
    return tuple(step[ALTERNATIVES]) if ALTERNATIVES in step else (step,)


def placeholders(text: str) -> list[str]:
    """Return the names of the arguments that ``text`` stands for or contains."""
    return _PLACEHOLDER.findall(text)


def _step(node: Node, arguments: Collection[str]) -> Action:
    if isinstance(node.value, dict) and ALTERNATIVES in node.value:
        ways = node.record((ALTERNATIVES,))[ALTERNATIVES]
        return {ALTERNATIVES: [_action(way, arguments) for way in ways.sequence(MAX_STEPS)]}
    return _action(node, arguments)


def _action(node: Node, arguments: Collection[str]) -> Action:
    required = {key for must, _ in _KINDS.values() for key in must}
    optional = {key for _, may in _KINDS.values() for key in may}
    kind = node.record(("kind", *required, *optional), ("kind",))["kind"].choice(_KINDS)
    must, may = _KINDS[kind]
    step = node.record(("kind", *must, *may), must)
    for key, entry in step.items():
        _check(key, entry, arguments)
    if step.get("op") and (step["op"].value == "set") != ("value" in step):
        node.fail("'value' is missing" if step["op"].value == "set" else "'value' is only for op set")
    if "current" in step and not _takes_one_argument(step.get("args")):
        step["current"].fail("args must then be one placeholder")
    action: Action = node.value
    return action


def _check(key: str, entry: Node, arguments: Collection[str]) -> None:
    if key in _CHOICES:
        entry.choice(_CHOICES[key])
    elif key in _PATTERNS:
        entry.text(_PATTERNS[key])
    elif key == "divisor":
        if not 1 < entry.integer() <= MAX_DIVISOR:
            entry.fail(f"expected 2 to {MAX_DIVISOR}")
    elif key == "instruction":
        if entry.text() not in INSTRUCTIONS:
            similar = near(entry.text(), INSTRUCTIONS) or INSTRUCTIONS
            entry.fail(f"not one of the instructions that are safe; did you mean {', '.join(similar)}?")
    else:
        for text in entry.sequence(MAX_ARGS) if key == "args" else [entry]:
            check_placeholders(text, arguments)


def _takes_one_argument(args: Node | None) -> bool:
    return args is not None and len(args.value) == 1 and bool(_PLACEHOLDER.fullmatch(args.value[0]))


def check_placeholders(node: Node, arguments: Collection[str]) -> None:
    """Refuse text at ``node`` that has a placeholder for something else than ``arguments``."""
    for name in placeholders(node.text()):
        if name not in arguments:
            node.fail(f"<{name}> is not an argument of this command")
