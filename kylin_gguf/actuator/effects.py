"""What carries a command out, as data. A catalogue names known kinds of step and never a line of shell."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from kylin_gguf.actuator.arguments import Action
from kylin_gguf.actuator.node import Node
from kylin_gguf.actuator.probes import PROGRAM

MAX_STEPS = 8
MAX_ARGS = 16
# What each kind of step must and may say.
_KINDS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "dbus": (("bus", "dest", "path", "method"), ("args",)),
    "gsettings": (("op", "schema", "key"), ("value",)),
    "launch": (("program",), ("args",)),
    "settings-page": (("page",), ()),
}
_CHOICES: Mapping[str, tuple[str, ...]] = {"bus": ("session", "system"), "op": ("get", "set")}
_PLACEHOLDER = re.compile(r"<([^<>]*)>")


def read(node: Node, arguments: Sequence[str]) -> tuple[Action, ...]:
    """Return the steps at ``node``; placeholders may name ``arguments`` only. Raises CommandsInvalid."""
    return tuple(_step(step, arguments) for step in node.sequence(MAX_STEPS))


def _step(node: Node, arguments: Sequence[str]) -> Action:
    required = {key for must, _ in _KINDS.values() for key in must}
    optional = {key for _, may in _KINDS.values() for key in may}
    kind = node.record(("kind", *required, *optional), ("kind",))["kind"].choice(_KINDS)
    must, may = _KINDS[kind]
    step = node.record(("kind", *must, *may), must)
    for key, entry in step.items():
        texts = entry.sequence(MAX_ARGS) if key == "args" else [entry]
        for text in texts:
            _check_placeholders(text, arguments)
        if key in _CHOICES:
            entry.choice(_CHOICES[key])
    if kind == "launch":
        step["program"].text(PROGRAM)
    if "op" in step and step["op"].value == "set" and "value" not in step:
        node.fail("'value' is missing")
    action: Action = node.value
    return action


def _check_placeholders(node: Node, arguments: Sequence[str]) -> None:
    for name in _PLACEHOLDER.findall(node.text()):
        if name not in arguments:
            node.fail(f"<{name}> is not an argument of this command")
