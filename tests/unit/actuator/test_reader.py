"""The catalogue format: what is accepted, and that every mistake is refused with its place."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from kylin_gguf.actuator import reader
from kylin_gguf.actuator.catalogue import Kylin
from kylin_gguf.errors import CommandsInvalid, FileMissing, InvalidValue, UnknownOption

LAMP = """
version: 1
terms:
  lamp: {zh: [灯], en: [lamp]}
commands:
  lamp.level:
    description: {zh: 调灯, en: Set the lamp}
    risk: confirm
    kylin: {name: 灯, value: set}
    arguments:
      level: {type: integer, min: 0, max: 10, relative: {"+": {zh: [灯亮些]}, "-": {en: [dim the lamp]}}}
    examples: {en: [lamp to 5, set the lamp]}
    effect: [{kind: dbus, bus: session, dest: org.lamp, path: /lamp, method: org.lamp.Set, args: [<level>]}]
  lamp.power:
    description: {zh: 开关灯, en: Switch the lamp}
    kylin: {name: 灯开关}
    arguments:
      state:
        type: switch
        values:
          on: {kylin: 打开, examples: {en: [lamp on]}, effect: [{kind: launch, program: lamp, args: ["-1"]}]}
          off: {kylin: 关闭, examples: {en: [lamp off]}}
    not: {en: [lamp shop]}
negatives: {en: [hello]}
"""


def changed(path: str, value: Any) -> str:
    """LAMP with the node at ``path`` (slash-separated) replaced, or removed for None."""
    tree = yaml.load(LAMP, Loader=yaml.BaseLoader)  # every scalar as text, so that "on" stays "on"
    tree["version"] = 1
    level = tree["commands"]["lamp.level"]["arguments"]["level"]
    level.update(min=0, max=10)
    *parents, last = path.split("/")
    node = tree
    for part in parents:
        node = node[int(part)] if isinstance(node, list) else node[part]
    if value is None:
        del node[last]
    else:
        node[last] = value
    return yaml.safe_dump(tree, allow_unicode=True, sort_keys=False)


def test_a_catalogue_is_read() -> None:
    catalogue = reader.parse(LAMP, "lamp")
    level, power = catalogue.get("lamp.level"), catalogue.get("lamp.power")
    assert level.risk == "confirm"
    assert {(e.text, e.forms) for e in level.examples} == {
        ("灯亮些", (("level", "+"),)),
        ("dim the lamp", (("level", "-"),)),
        ("lamp to 5", (("level", "number"),)),
        ("set the lamp", ()),
    }
    assert level.kylin({"level": 5}) == Kylin("灯", "set")
    assert power.kylin({"state": "off"}) == Kylin("灯开关", "关闭")
    assert power.actions({"state": "on"})[0]["program"] == "lamp"
    assert power.actions({"state": "off"}) == ()
    assert [e.text for e in catalogue.negatives] == ["hello", "lamp shop"]


def test_unchanged_helper_gives_the_same_catalogue() -> None:
    assert reader.parse(changed("version", 1), "lamp") == reader.parse(LAMP, "lamp")


COMMAND = "commands/lamp.level"
LEVEL = f"{COMMAND}/arguments/level"


MISTAKES: list[tuple[str, Any, str]] = [
    ("version", 2, "version"),
    ("version", None, "file"),
    ("extra", 1, "file.extra"),
    ("commands", {}, "commands"),
    ("commands", [1], "commands"),
    ("commands/rm -rf", {}, "commands.rm -rf"),
    ("commands/lamp.level", "text", "commands.lamp.level"),
    (f"{COMMAND}/descripton", "x", "commands.lamp.level.descripton"),
    (f"{COMMAND}/description/en", None, "commands.lamp.level.description"),
    (f"{COMMAND}/risk", "none", "commands.lamp.level.risk"),
    (f"{COMMAND}/risk", ["safe"], "commands.lamp.level.risk"),
    (f"{COMMAND}/examples", {"fr": ["la lampe"]}, "commands.lamp.level.examples.fr"),
    (f"{COMMAND}/examples", {"en": []}, "commands.lamp.level.examples.en"),
    (f"{COMMAND}/examples", {"en": ["x" * 201]}, "commands.lamp.level.examples.en[0]"),
    (f"{COMMAND}/examples", {"en": [5]}, "commands.lamp.level.examples.en[0]"),
    (f"{COMMAND}/examples", {"en": ["a\nb"]}, "commands.lamp.level.examples.en[0]"),
    (f"{COMMAND}/kylin", {"name": "灯"}, "commands.lamp.level.kylin"),
    ("commands/lamp.power/kylin", None, "commands.lamp.power"),
    (f"{LEVEL}/type", "float", "commands.lamp.level.arguments.level.type"),
    (f"{LEVEL}/type", {"a": "b"}, "commands.lamp.level.arguments.level.type"),
    (f"{LEVEL}/min", 11, "commands.lamp.level.arguments.level"),
    (f"{LEVEL}/min", "low", "commands.lamp.level.arguments.level.min"),
    (f"{LEVEL}/min", True, "commands.lamp.level.arguments.level.min"),
    (f"{LEVEL}/max", 10**9, "commands.lamp.level.arguments.level.max"),
    (f"{LEVEL}/relative/+", None, "commands.lamp.level.arguments.level.relative"),
    ("commands/lamp.power/arguments/state/values/on", None, "commands.lamp.power.arguments.state.values"),
    (f"{COMMAND}/effect/0/kind", "shell", "commands.lamp.level.effect[0].kind"),
    (f"{COMMAND}/effect/0/bus", "world", "commands.lamp.level.effect[0].bus"),
    (f"{COMMAND}/effect/0/args", ["<other>"], "commands.lamp.level.effect[0].args[0]"),
    (f"{COMMAND}/effect/0/path", None, "commands.lamp.level.effect[0]"),
    (
        f"{COMMAND}/effect",
        [{"kind": "launch", "program": "sh -c ls"}],
        "commands.lamp.level.effect[0].program",
    ),
    (
        f"{COMMAND}/effect",
        [{"kind": "launch", "program": "../x"}],
        "commands.lamp.level.effect[0].program",
    ),
    (
        f"{COMMAND}/effect",
        [{"kind": "gsettings", "op": "set", "schema": "s", "key": "k"}],
        "commands.lamp.level.effect[0]",
    ),
    (f"{COMMAND}/availability", {}, "commands.lamp.level.availability"),
    (f"{COMMAND}/availability", {"all": []}, "commands.lamp.level.availability.all"),
    (f"{COMMAND}/availability", {"all": [{"kind": "file"}]}, "commands.lamp.level.availability.all[0].kind"),
    (
        f"{COMMAND}/availability",
        {"any": [{"kind": "program", "program": "/bin/sh"}]},
        "commands.lamp.level.availability.any[0].program",
    ),
    (
        f"{COMMAND}/availability",
        {"any": [{"kind": "dbus-name", "bus": "session", "name": "a b"}]},
        "commands.lamp.level.availability.any[0].name",
    ),
    (f"{LEVEL}", {"type": "choice"}, "commands.lamp.level.arguments.level"),
    (f"{LEVEL}", {"type": "text", "max": 201}, "commands.lamp.level.arguments.level.max"),
    (f"{LEVEL}", {"type": "number", "min": "low", "max": 1}, "commands.lamp.level.arguments.level.min"),
    ("lists", {"Not A Word": {}}, "lists.Not A Word"),
    ("lists", {"x": {"a": {}}}, "lists.x.a"),
    ("lists", {"x": {"": {"en": ["a"]}}}, "lists.x."),
    ("terms/Not A Word", {"en": ["x"]}, "terms.Not A Word"),
]


@pytest.mark.parametrize(("path", "value", "where"), MISTAKES)
def test_mistakes_are_refused_with_their_place(path: str, value: Any, where: str) -> None:
    with pytest.raises(CommandsInvalid) as caught:
        reader.parse(changed(path, value), "lamp")
    assert caught.value.where == where
    assert caught.value.name == "lamp"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "a: b: c",
        "version: 1\nversion: 1\ncommands: {}",
        "version: 1\ncommands: &x {}\nterms: *x",
        "!!python/object/apply:os.system ['true']",
        "[" * 1000,
        "x: " + "y" * reader.MAX_BYTES,
        "version: 1\ncommands: {? [a] : b}",
        "\x00",
    ],
)
def test_hostile_yaml_is_refused(text: str) -> None:
    with pytest.raises(CommandsInvalid):
        reader.parse(text, "bad")


def test_unknown_keys_suggest_near_ones() -> None:
    with pytest.raises(CommandsInvalid, match="description"):
        reader.parse(changed(f"{COMMAND}/descripton", "x"), "lamp")


def test_load_names_missing_and_oversized_files(tmp_path: Path) -> None:
    with pytest.raises(FileMissing):
        reader.load(tmp_path / "none.yaml")
    big = tmp_path / "big.yaml"
    big.write_bytes(b"#" * (reader.MAX_BYTES + 1))
    with pytest.raises(CommandsInvalid):
        reader.load(big)
    (tmp_path / "latin.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(FileMissing):
        reader.load(tmp_path / "latin.yaml")


def test_validate_checks_names_types_and_ranges() -> None:
    catalogue = reader.parse(LAMP, "lamp")
    assert catalogue.validate("lamp.level", {"level": 10}) == {"level": 10}
    assert catalogue.validate("lamp.level", {"level": "+"}) == {"level": "+"}
    for arguments in ({"level": 11}, {"level": "5"}, {"level": True}, {"level": None}, {}, {"level": 5.0}):
        with pytest.raises(InvalidValue):
            catalogue.validate("lamp.level", arguments)
    with pytest.raises(InvalidValue):
        catalogue.validate("lamp.power", {"state": "maybe"})
    with pytest.raises(UnknownOption):
        catalogue.validate("lamp.power", {"state": "on", "colour": "red"})
    with pytest.raises(InvalidValue, match=r"lamp\.level"):
        catalogue.validate("lamp.levle", {})


def test_merge_refuses_to_replace_a_command() -> None:
    lamp = reader.parse(LAMP, "lamp")
    other = reader.parse(LAMP.replace("lamp.level", "lamp.dim").replace("lamp.power", "lamp.switch"), "other")
    merged = lamp.merge(other)
    assert {c.id for c in merged.commands} == {"lamp.level", "lamp.power", "lamp.dim", "lamp.switch"}
    assert len(merged.negatives) == 4
    with pytest.raises(CommandsInvalid):
        merged.merge(other)
