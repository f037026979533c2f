"""The JSON schema for editors describes what the reader takes, as far as a schema can."""

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from kylin_gguf.actuator import plain_yaml, reader
from kylin_gguf.actuator.shipped import SHIPPED_COMMANDS
from kylin_gguf.errors import CommandsInvalid
from tests.unit.actuator.catalogues import FIRST, PLAYER
from tests.unit.actuator.test_reader import LAMP, MISTAKES, changed

DOCS = Path(__file__).parents[3] / "docs"
SCHEMA = Draft202012Validator(
    json.loads((DOCS / "command-catalogue.schema.json").read_text(encoding="utf-8"))
)
PAGE = (DOCS / "command-catalogue.md").read_text(encoding="utf-8")

# What needs knowledge of another place, which a schema does not have.
ONLY_THE_READER: list[tuple[str, Any]] = [
    ("commands", {}),
    ("commands/lamp.level/kylin", {"name": "灯"}),
    ("commands/lamp.power/kylin", None),
    ("commands/lamp.level/arguments/level/min", 11),
    ("commands/lamp.level/effect/0/args", ["<other>"]),
]


def read(text: str) -> bool:
    try:
        reader.parse(text, "it")
    except CommandsInvalid:
        return False
    return True


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(SCHEMA.schema)


@pytest.mark.parametrize("path", sorted(SHIPPED_COMMANDS.glob("*.yaml")), ids=lambda path: path.name)
def test_the_shipped_catalogue(path: Path) -> None:
    SCHEMA.validate(plain_yaml.parse(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    "text", [LAMP, FIRST, PLAYER, *(part.split("```")[0] for part in PAGE.split("```yaml\n")[1:])]
)
def test_both_take_what_is_good(text: str) -> None:
    assert read(text)
    SCHEMA.validate(plain_yaml.parse(text))


@pytest.mark.parametrize(("path", "value", "_where"), MISTAKES)
def test_both_refuse_what_is_bad(path: str, value: Any, _where: str) -> None:
    text = changed(path, value)
    assert not read(text)
    assert SCHEMA.is_valid(plain_yaml.parse(text)) == ((path, value) in ONLY_THE_READER)
