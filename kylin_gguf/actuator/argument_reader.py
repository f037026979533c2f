"""Read the arguments of a command, and the lists that they draw from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from kylin_gguf.actuator import choices, effects
from kylin_gguf.actuator.arguments import (
    DOWN,
    MAX_ARGUMENTS,
    UP,
    Argument,
    ChangeArgument,
    ChoiceArgument,
    EnumArgument,
    EnumValue,
    IntegerArgument,
    NumberArgument,
    NumericArgument,
    TextArgument,
)
from kylin_gguf.actuator.catalogue import Example
from kylin_gguf.actuator.choices import MAX_CHOICES, NONE, Choices
from kylin_gguf.actuator.example_reader import examples, phrases
from kylin_gguf.actuator.node import MAX_TEXT, WORD, Node

MAX_VALUES = 64
MAX_LISTS = 16
STEPS = 10
"""How many steps up lead from a number's minimum to its maximum, where it does not say."""

# The words that switch anything on and off, so that no catalogue has to repeat them.
_ON = "打开 开启 启用 开 恢复 on enable activate start"
_OFF = "关闭 关掉 关了 关 禁用 停用 取消 别 不要 off disable deactivate stop"
_SWITCH: Mapping[str, tuple[str, ...]] = {"on": tuple(_ON.split()), "off": tuple(_OFF.split())}
Read = tuple[Argument, list[Example]]


def arguments(node: Node, command: str) -> tuple[tuple[Argument, ...], list[Example]]:
    """Return the arguments at ``node``, and the examples that stand with their values.

    Choice arguments have nothing to choose from yet. Raises CommandsInvalid.
    """
    found, said = [], []
    for name, entry in node.mapping(MAX_ARGUMENTS).items():
        replace(entry, value=name).text(WORD)
        fields = entry.mapping(MAX_VALUES)
        if "type" not in fields:
            entry.fail("'type' is missing")
        argument, given = _TYPES[fields["type"].choice(_TYPES)](name, entry, command)
        found.append(argument)
        said += given
    return tuple(found), said


def lists(node: Node) -> dict[str, Choices]:
    """Return the lists at ``node``, by name. Raises CommandsInvalid."""
    found = {}
    for name, entries in node.mapping(MAX_LISTS).items():
        replace(entries, value=name).text(WORD)
        names = {}
        for entry, called in entries.mapping(MAX_CHOICES).items():
            replace(called, value=entry).text()
            names[entry] = phrases(called)
            if not names[entry]:
                called.fail("an entry needs a name that it is called by")
        found[name] = choices.read(names)
    return found


def _directions(node: Node, command: str, name: str) -> list[Example]:
    return [
        example
        for direction, entry in node.record((UP, DOWN), (UP, DOWN)).items()
        for example in examples(entry, command, ((name, direction),))
    ]


def _numeric(name: str, node: Node, command: str) -> Read:
    entry = node.record(("type", "min", "max", "unit", "relative", "step"), ("min", "max"))
    whole = entry["type"].value == "integer"
    low, high = (_number(entry[key], whole=whole) for key in ("min", "max"))
    if low > high:
        node.fail("min is greater than max")
    step = (high - low) / STEPS
    if whole:
        step = max(1, round(step))
    if "step" in entry:
        step = _number(entry["step"], whole=whole)
        if step <= 0 or "relative" not in entry:
            entry["step"].fail("expected more than 0, beside 'relative'")
    unit = entry["unit"].text() if "unit" in entry else ""
    relative = entry.get("relative")
    argument: NumericArgument
    if whole:
        argument = IntegerArgument(name, int(low), int(high), unit, relative is not None, int(step))
    else:
        argument = NumberArgument(name, low, high, unit, relative is not None, step)
    return argument, _directions(relative, command, name) if relative else []


def _number(node: Node, *, whole: bool) -> float:
    return node.integer() if whole else node.number()


def _change(name: str, node: Node, command: str) -> Read:
    entry = node.record(("type", "relative"), ("relative",))
    return ChangeArgument(name), _directions(entry["relative"], command, name)


def _enum(name: str, node: Node, command: str) -> Read:
    entry = node.record(("type", "values"), ("values",))
    built_in = _SWITCH if entry["type"].value == "switch" else {}
    given = entry["values"].mapping(MAX_VALUES)
    if not given or (built_in and set(given) != set(built_in)):
        entry["values"].fail("a switch has the values on and off" if built_in else "there are none")
    values: list[EnumValue] = []
    said: list[Example] = []
    for value, body in given.items():
        replace(body, value=value).text(WORD)
        fields = body.record(("synonyms", "examples", "kylin", "effect"))
        synonyms = phrases(fields["synonyms"]) if "synonyms" in fields else []
        kylin = fields["kylin"].text() if "kylin" in fields else None
        effect = effects.read(fields["effect"], [name]) if "effect" in fields else ()
        values.append(EnumValue(value, (*synonyms, *built_in.get(value, ())), kylin, effect))
        if "examples" in fields:
            said += examples(fields["examples"], command, ((name, value),))
    return EnumArgument(name, tuple(values)), said


def _choice(name: str, node: Node, _: str) -> Read:
    entry = node.record(("type", "list"), ("list",))
    return ChoiceArgument(name, entry["list"].text(WORD), NONE), []


def _text(name: str, node: Node, _: str) -> Read:
    entry = node.record(("type", "max"))
    limit = entry["max"].integer() if "max" in entry else MAX_TEXT
    if not 0 < limit <= MAX_TEXT:
        entry["max"].fail(f"expected 1 to {MAX_TEXT}")
    return TextArgument(name, limit), []


_TYPES: Mapping[str, Callable[[str, Node, str], Read]] = {
    "integer": _numeric,
    "number": _numeric,
    "change": _change,
    "enum": _enum,
    "switch": _enum,
    "choice": _choice,
    "text": _text,
}
