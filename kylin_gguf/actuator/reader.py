"""Read a command catalogue from YAML, strictly: what is not understood is an error with its place."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from kylin_gguf.actuator import plain_yaml
from kylin_gguf.actuator.catalogue import (
    DOWN,
    LANGUAGES,
    UP,
    Action,
    Argument,
    ChangeArgument,
    Command,
    CommandCatalogue,
    EnumArgument,
    EnumValue,
    Example,
    IntegerArgument,
    Risk,
)
from kylin_gguf.actuator.quantities import read as read_quantities
from kylin_gguf.actuator.wording import normalise
from kylin_gguf.errors import CommandsInvalid, FileMissing, near

VERSION = 1
MAX_BYTES = 1 << 20
MAX_COMMANDS = 500
MAX_ARGUMENTS = 4
MAX_VALUES = 64
MAX_PHRASES = 2000
MAX_TEXT = 200
MAX_NUMBER = 1_000_000
_RISKS: Mapping[str, Risk] = {"safe": "safe", "confirm": "confirm"}

_ID = re.compile(r"[a-z][a-z0-9-]*(\.[a-z0-9][a-z0-9-]*){0,3}")
_WORD = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
_PLACEHOLDER = re.compile(r"<([^<>]*)>")
_SAFE = re.compile(r"[^\x00-\x1f\x7f]{0,200}")
_PROGRAM = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
# What each kind of action must and may say. A program is a name found on PATH, never a path or a line of shell.
_ACTIONS: Mapping[str, tuple[frozenset[str], frozenset[str]]] = {
    "dbus": (frozenset({"bus", "dest", "path", "method"}), frozenset({"args"})),
    "gsettings": (frozenset({"op", "schema", "key"}), frozenset({"value"})),
    "launch": (frozenset({"program"}), frozenset({"args"})),
    "settings-page": (frozenset({"page"}), frozenset()),
}
_CHOICES: Mapping[str, tuple[str, ...]] = {"bus": ("session", "system"), "op": ("get", "set")}
# The words that switch anything on and off, so that no catalogue has to repeat them.
_SWITCH_SYNONYMS: Mapping[str, tuple[str, ...]] = {
    "on": ("打开", "开启", "启用", "开", "恢复", "on", "enable", "activate", "start"),
    "off": ("关闭", "关掉", "关了", "关", "禁用", "停用", "取消", "别", "不要", "off", "disable", "deactivate", "stop"),
}


def load(path: Path) -> CommandCatalogue:
    """Read the catalogue file ``path``; its name is the file's without the suffix.

    Raises:
        FileMissing: the file cannot be read.
        CommandsInvalid: it breaks the format.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise CommandsInvalid(path.name, "file", f"larger than {MAX_BYTES} bytes")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FileMissing(str(path), str(error)) from error
    return parse(text, path.stem)


def parse(text: str, name: str) -> CommandCatalogue:
    """Read a catalogue from YAML ``text``; ``name`` is what errors call it. Raises CommandsInvalid."""
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise CommandsInvalid(name, "file", f"larger than {MAX_BYTES} bytes")
    try:
        tree = plain_yaml.parse(text)
    except plain_yaml.Unreadable as error:
        raise CommandsInvalid(name, "file", str(error)) from error
    return _Reader(name).catalogue(tree)


class _Reader:
    """The schema, as one method a kind of node. ``where`` is the path of the node, for messages."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._phrases = 0

    def _fail(self, where: str, reason: str) -> NoReturn:
        raise CommandsInvalid(self._name, where, reason)

    def _mapping(self, value: Any, where: str, known: Iterable[str] | None = None, required: Iterable[str] = ()) -> dict[str, Any]:
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            self._fail(where, "expected a mapping of names to values")
        known = None if known is None else tuple(known)
        for key in value:
            if known is not None and key not in known:
                self._fail(f"{where}.{key}", f"unknown key; did you mean {', '.join(near(key, known) or known)}?")
        for key in required:
            if key not in value:
                self._fail(where, f"'{key}' is missing")
        return value

    def _choice(self, value: Any, where: str, choices: Iterable[str]) -> str:
        known = tuple(choices)
        if not isinstance(value, str) or value not in known:
            self._fail(where, f"expected {' or '.join(known)}")
        return value

    def _list(self, value: Any, where: str, limit: int) -> list[Any]:
        if not isinstance(value, list) or not value or len(value) > limit:
            self._fail(where, f"expected a list of 1 to {limit} items")
        return value

    def _text(self, value: Any, where: str, pattern: re.Pattern[str] = _SAFE) -> str:
        if not isinstance(value, str) or not value or len(value) > MAX_TEXT or not pattern.fullmatch(value):
            self._fail(where, f"expected text of 1 to {MAX_TEXT} characters matching {pattern.pattern}")
        return value

    def _integer(self, value: Any, where: str) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or abs(value) > MAX_NUMBER:
            self._fail(where, f"expected a whole number up to {MAX_NUMBER}")
        return value

    def _phrase(self, value: Any, where: str) -> str:
        self._phrases += 1
        if self._phrases > 20 * MAX_PHRASES:
            self._fail(where, "too many phrases in one catalogue")
        phrase = normalise(self._text(value, where))
        if not phrase:
            self._fail(where, "nothing is left of the phrase")
        return phrase

    def _phrases_of(self, value: Any, where: str) -> list[str]:
        mapping = self._mapping(value, where, LANGUAGES)
        return [
            self._phrase(item, f"{where}.{language}[{i}]")
            for language, items in mapping.items()
            for i, item in enumerate(self._list(items, f"{where}.{language}", MAX_PHRASES))
        ]

    def catalogue(self, value: Any) -> CommandCatalogue:
        top = self._mapping(
            value, "file", ("version", "commands", "negatives", "terms"), ("version", "commands")
        )
        if top["version"] != VERSION:
            self._fail("version", f"expected {VERSION}")
        commands, negatives = [], self._examples(top.get("negatives", {}), "negatives", None)
        entries = self._mapping(top["commands"], "commands")
        if not 0 < len(entries) <= MAX_COMMANDS:
            self._fail("commands", f"expected 1 to {MAX_COMMANDS} commands")
        for command_id, entry in entries.items():
            self._text(command_id, f"commands.{command_id}", _ID)
            command, refused = self._command(command_id, entry, f"commands.{command_id}")
            commands.append(command)
            negatives += refused
        terms = self._mapping(top.get("terms", {}), "terms")
        read = {
            self._text(c, f"terms.{c}", _WORD): tuple(self._phrases_of(v, f"terms.{c}")) for c, v in terms.items()
        }
        return CommandCatalogue(self._name, tuple(commands), tuple(negatives), read)

    def _examples(
        self, value: Any, where: str, command: str | None, forms: tuple[tuple[str, str], ...] = ()
    ) -> list[Example]:
        return [Example(text, command, forms) for text in self._phrases_of(value, where)]

    def _command(self, command_id: str, value: Any, where: str) -> tuple[Command, list[Example]]:
        keys = ("description", "arguments", "examples", "not", "effect", "risk", "kylin")
        entry = self._mapping(value, where, keys, ("description",))
        description = self._mapping(entry["description"], f"{where}.description", LANGUAGES, LANGUAGES)
        for language in LANGUAGES:
            self._text(description[language], f"{where}.description.{language}")
        arguments, examples = self._arguments(entry.get("arguments", {}), f"{where}.arguments", command_id)
        examples += self._numbered(self._examples(entry.get("examples", {}), f"{where}.examples", command_id), arguments)
        if not examples:
            self._fail(where, "a command needs examples, of its own or in the values of its arguments")
        risk = _RISKS[self._choice(entry.get("risk", "safe"), f"{where}.risk", _RISKS)]
        kylin_name, kylin_value = self._kylin(entry, where, arguments)
        command = Command(
            command_id,
            description,
            arguments,
            tuple(examples),
            self._effect(entry.get("effect"), f"{where}.effect", [a.name for a in arguments]),
            risk,
            kylin_name,
            kylin_value,
        )
        return command, self._examples(entry.get("not", {}), f"{where}.not", None)

    def _numbered(self, examples: list[Example], arguments: Sequence[Argument]) -> list[Example]:
        """Mark the examples that contain a value of the command's only integer argument."""
        integers = [a for a in arguments if isinstance(a, IntegerArgument)]
        if len(integers) != 1:
            return examples
        [argument] = integers
        return [
            Example(e.text, e.command, ((argument.name, "number"),))
            if read_quantities(e.text).values(argument.minimum, argument.maximum)
            else e
            for e in examples
        ]

    def _kylin(self, entry: Mapping[str, Any], where: str, arguments: Sequence[Argument]) -> tuple[str, str]:
        values = [v for a in arguments if isinstance(a, EnumArgument) for v in a.values]
        if "kylin" not in entry:
            if any(v.kylin for v in values):
                self._fail(where, "values name a kylin value and the command names no kylin entry")
            return "", ""
        kylin = self._mapping(entry["kylin"], f"{where}.kylin", ("name", "value"), ("name",))
        name = self._text(kylin["name"], f"{where}.kylin.name")
        if "value" in kylin:
            return name, self._text(kylin["value"], f"{where}.kylin.value")
        if not values or not all(v.kylin for v in values):
            self._fail(f"{where}.kylin", "'value' is missing, here or in a value of the enum argument")
        return name, ""

    def _arguments(self, value: Any, where: str, command: str) -> tuple[tuple[Argument, ...], list[Example]]:
        arguments, examples = [], []
        entries = self._mapping(value, where)
        if len(entries) > MAX_ARGUMENTS:
            self._fail(where, f"expected at most {MAX_ARGUMENTS} arguments")
        kinds: dict[str, Callable[[str, dict[str, Any], str, str], tuple[Argument, list[Example]]]] = {
            "integer": self._integer_argument,
            "change": self._change_argument,
            "enum": self._enum_argument,
            "switch": self._enum_argument,
        }
        for name, entry in entries.items():
            here = f"{where}.{name}"
            self._text(name, here, _WORD)
            kind = self._choice(self._mapping(entry, here, None, ("type",))["type"], f"{here}.type", kinds)
            argument, found = kinds[kind](name, entry, here, command)
            arguments.append(argument)
            examples += found
        return tuple(arguments), examples

    def _directions(self, value: Any, where: str, command: str, name: str) -> list[Example]:
        entries = self._mapping(value, where, (UP, DOWN), (UP, DOWN))
        return [
            e for d, v in entries.items() for e in self._examples(v, f"{where}.{d}", command, ((name, d),))
        ]

    def _integer_argument(
        self, name: str, entry: dict[str, Any], where: str, command: str
    ) -> tuple[Argument, list[Example]]:
        self._mapping(entry, where, ("type", "min", "max", "unit", "relative"), ("min", "max"))
        low, high = (self._integer(entry[key], f"{where}.{key}") for key in ("min", "max"))
        if low > high:
            self._fail(where, "min is greater than max")
        unit = self._text(entry["unit"], f"{where}.unit") if "unit" in entry else ""
        examples = []
        if "relative" in entry:
            examples = self._directions(entry["relative"], f"{where}.relative", command, name)
        return IntegerArgument(name, low, high, unit, "relative" in entry), examples

    def _change_argument(
        self, name: str, entry: dict[str, Any], where: str, command: str
    ) -> tuple[Argument, list[Example]]:
        self._mapping(entry, where, ("type", "relative"), ("relative",))
        return ChangeArgument(name), self._directions(entry["relative"], f"{where}.relative", command, name)

    def _enum_argument(
        self, name: str, entry: dict[str, Any], where: str, command: str
    ) -> tuple[Argument, list[Example]]:
        self._mapping(entry, where, ("type", "values"), ("values",))
        values, examples = [], []
        entries = self._mapping(entry["values"], f"{where}.values")
        if not 0 < len(entries) <= MAX_VALUES:
            self._fail(f"{where}.values", f"expected 1 to {MAX_VALUES} values")
        if entry["type"] == "switch" and set(entries) != set(_SWITCH_SYNONYMS):
            self._fail(f"{where}.values", "a switch has the values on and off")
        for value_name, given in entries.items():
            here = f"{where}.values.{value_name}"
            self._text(value_name, here, _WORD)
            body = self._mapping(given, here, ("synonyms", "examples", "kylin", "effect"))
            synonyms = self._phrases_of(body.get("synonyms", {}), f"{here}.synonyms")
            if entry["type"] == "switch":
                synonyms += _SWITCH_SYNONYMS[value_name]
            kylin = self._text(body["kylin"], f"{here}.kylin") if "kylin" in body else None
            effect = self._effect(body.get("effect"), f"{here}.effect", [name])
            values.append(EnumValue(value_name, tuple(synonyms), kylin, effect))
            examples += self._examples(body.get("examples", {}), f"{here}.examples", command, ((name, value_name),))
        return EnumArgument(name, tuple(values)), examples

    def _effect(self, value: Any, where: str, arguments: Sequence[str]) -> tuple[Action, ...]:
        if value is None:
            return ()
        steps = self._list(value, where, 8)
        return tuple(self._action(step, f"{where}[{i}]", arguments) for i, step in enumerate(steps))

    def _action(self, value: Any, where: str, arguments: Sequence[str]) -> Action:
        kind = self._choice(self._mapping(value, where, None, ("kind",))["kind"], f"{where}.kind", _ACTIONS)
        required, optional = _ACTIONS[kind]
        action = self._mapping(value, where, {"kind"} | required | optional, required)
        for key, given in action.items():
            if key == "args":
                for i, item in enumerate(self._list(given, f"{where}.args", 16)):
                    self._slots(self._text(item, f"{where}.args[{i}]"), f"{where}.args[{i}]", arguments)
            else:
                self._slots(self._text(given, f"{where}.{key}"), f"{where}.{key}", arguments)
        if kind == "launch":
            self._text(action["program"], f"{where}.program", _PROGRAM)
        for key, choices in _CHOICES.items():
            if key in action:
                self._choice(action[key], f"{where}.{key}", choices)
        if action.get("op") == "set" and "value" not in action:
            self._fail(where, "'value' is missing")
        return action

    def _slots(self, text: str, where: str, arguments: Sequence[str]) -> None:
        for slot in _PLACEHOLDER.findall(text):
            if slot not in arguments:
                self._fail(where, f"<{slot}> is not an argument of this command")
