"""The catalogue shown in the documentation is a valid one and does what the page says."""

from pathlib import Path

import pytest

from kylin_gguf.actuator import reader
from kylin_gguf.actuator.interpret import Interpreter

PAGE = Path(__file__).parents[3] / "docs" / "command-catalogue.md"


@pytest.mark.parametrize(
    ("utterance", "command", "arguments"),
    [
        ("把台灯调到30", "lamp.level", {"level": 30}),
        ("turn the lamp off", "lamp.power", {"state": "off"}),
        ("hello there", None, {}),
    ],
)
async def test_the_documented_catalogue(
    utterance: str, command: str | None, arguments: dict[str, int | str]
) -> None:
    text = PAGE.read_text(encoding="utf-8").split("```yaml\n")[1].split("```")[0]
    found = await Interpreter(reader.parse(text, "page")).interpret(utterance)
    assert (found.command, dict(found.arguments)) == (command, arguments), found
