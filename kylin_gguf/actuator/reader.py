"""Read a command catalogue from YAML, strictly: what is not understood is an error with its place."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce
from pathlib import Path

from kylin_gguf.actuator import argument_reader, effects, example_reader, plain_yaml, probes
from kylin_gguf.actuator.arguments import Argument, ChoiceArgument, EnumArgument
from kylin_gguf.actuator.catalogue import LANGUAGES, Command, CommandCatalogue, Example, Language, Risk
from kylin_gguf.actuator.node import WORD, Node
from kylin_gguf.errors import CommandsInvalid, FileMissing

VERSION = 1
MAX_BYTES = 1 << 20
MAX_COMMANDS = 500
MAX_TERMS = 1000
MAX_EXAMPLES = 10000  # training takes their cube: 2000 examples are under a second, 6000 about ten

ID = re.compile(r"[a-z][a-z0-9-]*(\.[a-z0-9][a-z0-9-]*){0,3}")
_RISKS: Mapping[str, Risk] = {"safe": "safe", "confirm": "confirm"}
_TOP = ("version", "commands", "negatives", "terms", "lists")
_KEYS = ("description", "arguments", "examples", "not", "effect", "risk", "kylin", "availability", "answer")


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
    """Check what only holds for all parts together, and give choice arguments their lists."""
    top = Node(catalogue.name, "commands", None)
    if not catalogue.commands:
        top.fail("there are none")
    if len(catalogue.commands) > MAX_COMMANDS:
        top.fail(f"more than {MAX_COMMANDS}")
    if sum(1 for _ in catalogue.examples()) > MAX_EXAMPLES:
        top.fail(f"more than {MAX_EXAMPLES} examples in all")
    lists = catalogue.lists or {}
    for command in catalogue.commands:
        for argument in command.arguments:
            if isinstance(argument, ChoiceArgument) and argument.source not in lists:
                place = f"commands.{command.id}.arguments.{argument.name}.list"
                replace(top, where=place).fail(f"there is no list '{argument.source}'")
    return catalogue.with_lists(lists)


def _part(top: Node) -> CommandCatalogue:
    top.record(_TOP, ("version",))
    sections = replace(top, where="").mapping(len(_TOP))
    if sections["version"].integer() != VERSION:
        sections["version"].fail(f"expected {VERSION}")
    commands: list[Command] = []
    negatives: list[Example] = []
    if "negatives" in sections:
        given = example_reader.examples(sections["negatives"], None)
        negatives += example_reader.without_slots(sections["negatives"], given)
    for command_id, node in (
        sections["commands"].mapping(MAX_COMMANDS) if "commands" in sections else {}
    ).items():
        replace(node, value=command_id).text(ID)
        command, refused = _command(command_id, node)
        commands.append(command)
        negatives += refused
    terms = {}
    for concept, node in (sections["terms"].mapping(MAX_TERMS) if "terms" in sections else {}).items():
        replace(node, value=concept).text(WORD)
        terms[concept] = tuple(example_reader.phrases(node))
    lists = argument_reader.lists(sections["lists"]) if "lists" in sections else {}
    return CommandCatalogue(top.catalogue, tuple(commands), tuple(negatives), terms, lists)


def _command(command_id: str, node: Node) -> tuple[Command, list[Example]]:
    """The command, and the examples that are like it and none of it."""
    entry = node.record(_KEYS, ("description",))
    description = entry["description"].record(LANGUAGES, LANGUAGES)
    arguments: tuple[Argument, ...] = ()
    examples: list[Example] = []
    if "arguments" in entry:
        arguments, examples = argument_reader.arguments(entry["arguments"], command_id)
    if "examples" in entry:
        given = example_reader.examples(entry["examples"], command_id)
        examples += example_reader.numbered(given, arguments)
    if not examples:
        node.fail("a command needs examples, of its own or in the values of its arguments")
    examples = example_reader.slotted(node, examples, arguments)
    refused = example_reader.examples(entry["not"], None) if "not" in entry else []
    refused = example_reader.slotted(node, refused, arguments)
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
        patterns=example_reader.text_patterns(node, [*examples, *refused], arguments),
        availability=probes.read(entry["availability"]) if "availability" in entry else None,
        answer=_answer(entry["answer"], arguments) if "answer" in entry else {},
    )
    return command, refused


def _answer(node: Node, arguments: Sequence[Argument]) -> dict[Language, str]:
    texts = node.record(LANGUAGES, LANGUAGES)
    known = ("value", *(a.name for a in arguments))
    for text in texts.values():
        effects.check_placeholders(text, known)
    return {language: texts[language].text() for language in LANGUAGES}


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
