"""The calibration corpus is what its script builds from its parts, and each beginning of it has them all."""

from __future__ import annotations

import json
import runpy
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest

from kylin_convert import calibration

SCRIPT = Path(calibration.__file__).parents[1] / "corpus" / "build.py"
SHIPPED = Path(calibration.__file__).parent / "corpus" / "calibration.jsonl"

Messages = list[dict[str, str]]


def _read(path: Path) -> list[Messages]:
    return [json.loads(line)["messages"] for line in path.read_text(encoding="utf-8").splitlines()]


def _kind(messages: Messages) -> str:
    first = messages[0]["content"]
    if first.startswith(("把用户的话变成", "Turn what the user says")):
        return "commands"
    return "code" if first.startswith("Write a Python function:") else "text"


@pytest.fixture(scope="module")
def built() -> list[Messages]:
    text: Any = runpy.run_path(str(SCRIPT))["build"]()
    return [json.loads(line)["messages"] for line in text.splitlines()]


def test_all_that_was_written_is_in_it(built: list[Messages]) -> None:
    written = _read(SCRIPT.parent / "dialogues.jsonl")
    assert all(dialogue in built for dialogue in written)
    answers = {messages[-1]["content"] for messages in built}
    for language in calibration.LANGUAGES:
        text = (SCRIPT.parent / f"passages-{language}.txt").read_text(encoding="utf-8")
        passages = [part.partition("\n")[2] for part in text.strip().split("\n\n")]
        assert len(passages) > 15
        assert set(passages) <= answers


def test_commands_are_answered_from_the_list(built: list[Messages]) -> None:
    dialogues = [messages for messages in built if _kind(messages) == "commands"]
    assert len(dialogues) > 10
    for system, *turns in dialogues:
        listed = {line.split()[0] for line in system["content"].splitlines()[1:]}
        answers = [turn["content"] for turn in turns if turn["role"] == "assistant"]
        assert answers
        assert {answer.split()[0] for answer in answers} <= listed


def test_the_shipped_corpus_mixes_its_parts() -> None:
    shipped = _read(SHIPPED)
    sizes = list(accumulate(sum(len(message["content"]) for message in messages) for messages in shipped))
    first = [messages for messages, size in zip(shipped, sizes, strict=True) if size < sizes[-1] / 4]
    assert {_kind(messages) for messages in first} == {"commands", "code", "text"}
    assert any(messages[0]["role"] == "system" for messages in first)
