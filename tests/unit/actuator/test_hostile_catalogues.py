"""Whatever a catalogue is: it is refused with its place, or what it gives is valid."""

import asyncio
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from kylin_gguf.actuator import plain_yaml, reader
from kylin_gguf.actuator.arguments import Value
from kylin_gguf.actuator.interpret import Interpreter
from kylin_gguf.errors import CommandsInvalid
from tests.unit.actuator.hostile import TREES, documents
from tests.unit.actuator.test_schema import SCHEMA

UTTERANCES = (
    "开灯",
    "search for rm -rf /",
    "播放速度1.5倍",
    "tell <x> that \ufdd0",
    "收听爵士台",
    "$(reboot)",
)


@pytest.mark.parametrize("tree", TREES)
def test_the_documents_that_are_changed_are_good_ones(tree: Any) -> None:
    reader.parse(json.dumps(tree), "good")
    SCHEMA.validate(tree)


@settings(max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(documents())
def test_a_thousand_hostile_catalogues(text: str) -> None:
    try:
        catalogue = reader.parse(text, "hostile")
    except CommandsInvalid as error:
        assert error.name == "hostile"
        assert error.where
        assert error.reason
        return
    SCHEMA.validate(plain_yaml.parse(text))  # the schema refuses nothing that the reader takes
    asyncio.run(_use(Interpreter(catalogue)))


async def _use(interpreter: Interpreter) -> None:
    offer = await interpreter.collection.ready()
    for utterance in UTTERANCES:
        found = await interpreter.interpret(utterance)
        json.dumps(found.to_json())
        choices: list[tuple[str, dict[str, Value]]] = [
            (c.command, dict(c.arguments)) for c in found.alternatives
        ]
        if found.command is not None:
            choices.append((found.command, dict(found.arguments)))
        for command, arguments in choices:
            assert offer.catalogue.validate(command, arguments) == arguments
