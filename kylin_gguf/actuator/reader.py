"""Read a command catalogue from YAML, strictly: what is not understood is an error with its place."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from pathlib import Path

from kylin_gguf.actuator import effects, plain_yaml
from kylin_gguf.actuator.catalogue import (
    DOWN,
    LANGUAGES,
    UP,
    Argument,
    ChangeArgument,
    Command,
    CommandCatalogue,
    EnumArgument,
    EnumValue,
    Example,
    IntegerArgument,
    Language,
    Risk,
)
from kylin_gguf.actuator.node import Node
from kylin_gguf.actuator.quantities import read as read_quantities
from kylin_gguf.actuator.wording import normalise
from kylin_gguf.errors import CommandsInvalid, FileMissing

VERSION = 1
MAX_BYTES = 1 << 20
MAX_COMMANDS = 500
MAX_TERMS = 1000
MAX_ARGUMENTS = 4
STEPS = 10
"""How many steps up lead from an integer's minimum to its maximum, where it does not say."""
MAX_VALUES = 64
MAX_PHRASES = 1000
MAX_EXAMPLES = 6000  # training takes their cube: 2000 examples are under a second, 6000 about ten

_ID = re.compile(r"[a-z][a-z0-9-]*(\.[a-z0-9][a-z0-9-]*){0,3}")
_WORD = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
_RISKS: Mapping[str, Risk] = {"safe": "safe", "confirm": "confirm"}
_KEYS = ("description", "arguments", "examples", "not", "effect", "risk", "kylin", "answer")
# The words that switch anything on and off, so that no catalogue has to repeat them.
_ON = "打开 开启 启用 开 恢复 on enable activate start"
_OFF = "关闭 关掉 关了 关 禁用 停用 取消 别 不要 off disable deactivate stop"
_SWITCH: Mapping[str, tuple[str, ...]] = {"on": tuple(_ON.split()), "off": tuple(_OFF.split())}
Forms = tuple[tuple[str, str], ...]
Read = tuple[Argument, list[Example]]


def load(path: Path) -> CommandCatalogue:
    """Read the catalogue ``path``: a YAML file, or a directory of them that are its parts.

    Its name is that of the file, without the suffix, or of the directory.

    Raises:
        FileMissing: it cannot be read.
        CommandsInvalid: it breaks the format, or two parts have the same command.
    """
    if not path.is_dir():
        return _whole(_load_part(path, path.stem))
    parts = [_load_part(part, f"{path.name}/{part.stem}") for part in sorted(path.glob("*.yaml"))]
    return _whole(reduce(CommandCatalogue.merge, parts, CommandCatalogue(path.name, ())))


def _load_part(path: Path, name: str) -> CommandCatalogue:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise CommandsInvalid(name, "file", f"larger than {MAX_BYTES} bytes")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FileMissing(str(path), str(error)) from error
    return _parse_part(text, name)


def parse(text: str, name: str) -> CommandCatalogue:
    """Read a catalogue from YAML ``text``; ``name`` is what errors call it. Raises CommandsInvalid."""
    return _whole(_parse_part(text, name))


def _parse_part(text: str, name: str) -> CommandCatalogue:
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise CommandsInvalid(name, "file", f"larger than {MAX_BYTES} bytes")
    try:
        tree = plain_yaml.parse(text)
    except plain_yaml.Unreadable as error:
        raise CommandsInvalid(name, "file", str(error)) from error
    return _part(Node(name, "file", tree))


def _whole(catalogue: CommandCatalogue) -> CommandCatalogue:
    """Check what only holds for all parts together."""
    top = Node(catalogue.name, "commands", None)
    if not catalogue.commands:
        top.fail("there are none")
    if len(catalogue.commands) > MAX_COMMANDS:
        top.fail(f"more than {MAX_COMMANDS}")
    if sum(1 for _ in catalogue.examples()) > MAX_EXAMPLES:
        top.fail(f"more than {MAX_EXAMPLES} examples in all")
    return catalogue


def _part(top: Node) -> CommandCatalogue:
    top.record(("version", "commands", "negatives", "terms"), ("version",))
    sections = replace(top, where="").mapping(4)
    if sections["version"].value != VERSION:
        sections["version"].fail(f"expected {VERSION}")
    commands: list[Command] = []
    negatives = _examples(sections["negatives"], None) if "negatives" in sections else []
    for command_id, node in (
        sections["commands"].mapping(MAX_COMMANDS) if "commands" in sections else {}
    ).items():
        replace(node, value=command_id).text(_ID)
        command, refused = _command(command_id, node)
        commands.append(command)
        negatives += refused
    terms = {}
    for concept, node in (sections["terms"].mapping(MAX_TERMS) if "terms" in sections else {}).items():
        replace(node, value=concept).text(_WORD)
        terms[concept] = tuple(_phrases(node))
    return CommandCatalogue(top.catalogue, tuple(commands), tuple(negatives), terms)


def _phrases(node: Node) -> list[str]:
    """The phrases of both languages, in the normal form that utterances are compared in."""
    found = []
    for items in node.record(LANGUAGES).values():
        for item in items.sequence(MAX_PHRASES):
            found.append(normalise(item.text()))
            if not found[-1]:
                item.fail("nothing is left of the phrase")
    return found


def _examples(node: Node, command: str | None, forms: Forms = ()) -> list[Example]:
    return [Example(text, command, forms) for text in _phrases(node)]


def _command(command_id: str, node: Node) -> tuple[Command, list[Example]]:
    entry = node.record(_KEYS, ("description",))
    description = entry["description"].record(LANGUAGES, LANGUAGES)
    arguments, examples = _arguments(entry["arguments"], command_id) if "arguments" in entry else ((), [])
    if "examples" in entry:
        examples += _numbered(_examples(entry["examples"], command_id), arguments)
    if not examples:
        node.fail("a command needs examples, of its own or in the values of its arguments")
    kylin_name, kylin_value = _kylin(node, entry.get("kylin"), arguments)
    command = Command(
        id=command_id,
        description={language: description[language].text() for language in LANGUAGES},
        arguments=arguments,
        examples=tuple(examples),
        effect=effects.read(entry["effect"], [a.name for a in arguments]) if "effect" in entry else (),
        risk=_RISKS[entry["risk"].choice(_RISKS)] if "risk" in entry else "safe",
        kylin_name=kylin_name,
        kylin_value=kylin_value,
        answer=_answer(entry["answer"], arguments) if "answer" in entry else {},
    )
    return command, _examples(entry["not"], None) if "not" in entry else []


def _answer(node: Node, arguments: Sequence[Argument]) -> dict[Language, str]:
    texts = node.record(LANGUAGES, LANGUAGES)
    known = ("value", *(a.name for a in arguments))
    for text in texts.values():
        effects.check_placeholders(text, known)
    return {language: texts[language].text() for language in LANGUAGES}


def _numbered(examples: list[Example], arguments: Sequence[Argument]) -> list[Example]:
    """Mark the examples that contain a value of the command's only integer argument."""
    integers = [a for a in arguments if isinstance(a, IntegerArgument)]
    if len(integers) != 1:
        return examples
    [argument] = integers
    marked = ((argument.name, "number"),)
    return [
        replace(e, forms=marked) if read_quantities(e.text).values(argument.minimum, argument.maximum) else e
        for e in examples
    ]


def _kylin(node: Node, given: Node | None, arguments: Sequence[Argument]) -> tuple[str, str]:
    values = [v for a in arguments if isinstance(a, EnumArgument) for v in a.values]
    if given is None:
        if any(v.kylin for v in values):
            node.fail("values name a kylin value and the command names no kylin entry")
        return "", ""
    kylin = given.record(("name", "value"), ("name",))
    name = kylin["name"].text()
    if "value" in kylin:
        return name, kylin["value"].text()
    if not values or not all(v.kylin for v in values):
        given.fail("'value' is missing, here or in a value of the enum argument")
    return name, ""


def _arguments(node: Node, command: str) -> tuple[tuple[Argument, ...], list[Example]]:
    kinds: dict[str, Callable[[str, Node, str], Read]] = {
        "integer": _integer,
        "change": _change,
        "enum": _enum,
        "switch": _enum,
    }
    arguments, examples = [], []
    for name, entry in node.mapping(MAX_ARGUMENTS).items():
        replace(entry, value=name).text(_WORD)
        fields = entry.mapping(MAX_VALUES)
        if "type" not in fields:
            entry.fail("'type' is missing")
        argument, found = kinds[fields["type"].choice(kinds)](name, entry, command)
        arguments.append(argument)
        examples += found
    return tuple(arguments), examples


def _directions(node: Node, command: str, name: str) -> list[Example]:
    return [
        example
        for direction, entry in node.record((UP, DOWN), (UP, DOWN)).items()
        for example in _examples(entry, command, ((name, direction),))
    ]


def _integer(name: str, node: Node, command: str) -> Read:
    entry = node.record(("type", "min", "max", "unit", "relative", "step"), ("min", "max"))
    low, high = entry["min"].integer(), entry["max"].integer()
    if low > high:
        node.fail("min is greater than max")
    unit = entry["unit"].text() if "unit" in entry else ""
    relative = entry.get("relative")
    examples = _directions(relative, command, name) if relative else []
    step = entry["step"].integer() if "step" in entry else max(1, round((high - low) / STEPS))
    if step < 1 or (relative is None and "step" in entry):
        entry["step"].fail("expected at least 1, beside 'relative'")
    return IntegerArgument(name, low, high, unit, relative is not None, step), examples


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
    examples: list[Example] = []
    for value, body in given.items():
        replace(body, value=value).text(_WORD)
        fields = body.record(("synonyms", "examples", "kylin", "effect"))
        synonyms = _phrases(fields["synonyms"]) if "synonyms" in fields else []
        kylin = fields["kylin"].text() if "kylin" in fields else None
        effect = effects.read(fields["effect"], [name]) if "effect" in fields else ()
        values.append(EnumValue(value, (*synonyms, *built_in.get(value, ())), kylin, effect))
        if "examples" in fields:
            examples += _examples(fields["examples"], command, ((name, value),))
    return EnumArgument(name, tuple(values)), examples
