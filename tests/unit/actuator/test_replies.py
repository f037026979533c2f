"""What is said about a command: right, short, and in the user's language."""

from __future__ import annotations

from typing import Any

import pytest

from kylin_gguf.actuator import reader
from kylin_gguf.actuator.arguments import ChoiceArgument, EnumArgument, NumericArgument, TextArgument
from kylin_gguf.actuator.catalogue import LANGUAGES, CommandCatalogue
from kylin_gguf.actuator.effects import placeholders
from kylin_gguf.actuator.replies import describe, language_of, result
from kylin_gguf.errors import CommandsInvalid
from kylin_gguf.records import Execution


@pytest.mark.parametrize(
    ("command", "arguments", "execution", "zh", "en"),
    [
        ("volume.set", {"level": 40}, Execution("done"), "音量已调到40%。", "The volume is at 40 percent."),
        (
            "volume.set",
            {"level": "+"},
            Execution("done", value=50),
            "音量已调到50%。",
            "The volume is at 50 percent.",
        ),
        (
            "volume.set",
            {"level": "+"},
            Execution("done"),
            "好的，设置系统音量（调高一点）。",
            "Done: set the system volume (a step up).",
        ),
        ("volume.get", {}, Execution("done", value=35), "现在的音量是35%。", "The volume is at 35 percent."),
        (
            "bluetooth.set",
            {"state": "on"},
            Execution("done"),
            "好的，开关蓝牙（打开）。",
            "Done: switch Bluetooth (on).",
        ),
        (
            "mouse.wheel-speed.get",
            {},
            Execution("done", value=3),
            "查询鼠标滚轮速度：3。",
            "Tell the mouse wheel speed: 3.",
        ),
        (
            "volume.mute",
            {},
            Execution("failed", reason="x"),
            "抱歉，没有成功：静音。",
            "Sorry, that did not work: mute the sound.",
        ),
        (
            "window.style",
            {"style": "dark"},
            Execution("unavailable", reason="x"),
            "抱歉，这台电脑上做不到：设置窗口外观（深色）。",
            "Sorry, this computer cannot do that: set the window style (dark).",
        ),
    ],
)
def test_sentences(  # noqa: PLR0913, PLR0917 — a row of the table
    shipped: CommandCatalogue, command: str, arguments: dict[str, Any], execution: Execution, zh: str, en: str
) -> None:
    found = shipped.get(command)
    assert result(found, arguments, execution, "zh") == zh
    assert result(found, arguments, execution, "en") == en


def test_the_language_is_that_of_the_words() -> None:
    assert [language_of(words) for words in ("打开 bluetooth", "turn on 蓝牙", "turn it on", "50")] == [
        "zh",
        "zh",
        "en",
        "en",
    ]


def test_every_shipped_command_can_be_told(shipped: CommandCatalogue) -> None:
    """No placeholder is left, whatever the arguments; every value has a word."""
    for command in shipped.commands:
        examples: dict[str, Any] = {}
        for argument in command.arguments:
            match argument:
                case EnumArgument():
                    examples[argument.name] = argument.values[0].name
                case ChoiceArgument() | TextArgument():
                    examples[argument.name] = "x"
                case _ if isinstance(argument, NumericArgument):
                    examples[argument.name] = argument.minimum
                case _:
                    examples[argument.name] = "+"
        for language in LANGUAGES:
            for execution in (Execution("done"), Execution("done", value=7), Execution("failed")):
                said = result(command, examples, execution, language)
                assert said and not placeholders(said), said
            assert describe(command, examples, language)


def test_an_answer_may_only_name_what_there_is() -> None:
    text = """
version: 1
commands:
  lamp.on:
    description: {zh: 灯, en: Lamp}
    answer: {zh: 灯是<level>, en: lamp}
    examples: {en: [lamp on]}
"""
    with pytest.raises(CommandsInvalid, match="level"):
        reader.parse(text, "lamp")
