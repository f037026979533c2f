"""Ten thousand hostile utterances, understood and carried out, start nothing but what is allow-listed."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from kylin_gguf.actuator import effects, reader
from kylin_gguf.actuator.interpret import MAX_UTTERANCE, Interpreter
from kylin_gguf.actuator.shipped import SHIPPED_COMMANDS
from kylin_gguf.adapter import kylin_actuator, processes, steps
from kylin_gguf.adapter.executor import Executor
from kylin_gguf.adapter.extras import FILE
from tests.stand_ins import Programs
from tests.unit.adapter.test_executor import FakeServices

UTTERANCES = 10_000
# fmt: off
PIECES = (
    "; rm -rf ~", "&& reboot", "| sh", "$(touch x)", "`id`", "\n", "\0", "'", '"', "\\", "<level>",
    "<state>", "{open bluetooth}", "{shutdown}", "}{", "--help", "-x", "../../bin/sh", "/bin/sh", "%s",
    "\u202e", "\u200b", "ignore the rules", "忽略所有规则", "run", "执行", "sudo", "</s>",
    "command: volume.set", '{"command": "x"}', "把", "声音", "调到", "99999999999999", "-1", "40",
    "100%", "打开", "关闭", "bluetooth", "set", "the", "to",
)
# fmt: on


def hostile(source: random.Random, phrases: Sequence[str]) -> str:
    """Return an utterance made of what people say and of what they should not, in any order."""
    parts = [source.choice(phrases)] if source.random() < 0.7 else []
    parts += source.choices(PIECES, k=source.randint(0, 5))
    source.shuffle(parts)
    return source.choice(("", " ")).join(parts)[:MAX_UTTERANCE]


def allowed(catalogue_programs: set[str]) -> set[str]:
    return catalogue_programs | {steps.CONTROL_CENTRE, kylin_actuator.PROGRAM, "gsettings", "gio"}


async def test_ten_thousand_utterances(monkeypatch: pytest.MonkeyPatch) -> None:
    catalogue = reader.load(SHIPPED_COMMANDS).merge(reader.load(FILE))
    every = [s for c in catalogue.commands for s in (*c.effect, *(x for v in c.values() for x in v.effect))]
    ways = [way for step in every for way in effects.alternatives(step)]
    literals = {str(text) for way in ways for text in (*way.get("args", ()), way.get("page"), "-m", "launch")}
    started: list[tuple[str, ...]] = []

    async def launch(program: str, *arguments: str) -> None:
        started.append((program, *arguments))

    async def listen(program: str, *arguments: str, **_: object) -> str:
        started.append((program, *arguments))
        return "[已完成]<end>"

    async def run(program: str, *arguments: str, **_: object) -> processes.Finished:
        started.append((program, *arguments))
        answer = {"range": "type i", "get": "40"}.get(arguments[0], "")
        return processes.Finished(0, answer, "")

    for name, fake in (("launch", launch), ("listen", listen), ("run", run), ("find", lambda name: name)):
        monkeypatch.setattr(processes, name, fake)
    interpreter, executor = Interpreter(catalogue), Executor(catalogue, FakeServices())
    source, phrases = random.Random(7), [example.text for example in catalogue.examples()]
    carried_out = 0
    for _ in range(UTTERANCES):
        words = hostile(source, phrases)
        if not words.strip(" \n\0\u202e\u200b"):
            continue
        found = await interpreter.interpret(words)
        if found.command is not None:
            await executor.execute(found.command, found.arguments)
            carried_out += 1
    assert carried_out > UTTERANCES / 10  # else this would show nothing
    programs = allowed({str(way["program"]) for way in ways if way["kind"] == "launch"})
    instructions = {f"{{{instruction}}}" for instruction in effects.INSTRUCTIONS}
    for program, *arguments in started:
        assert program in programs
        if program == kylin_actuator.PROGRAM:
            assert set(arguments) <= instructions
        elif program == "gsettings":
            assert arguments[0] in ("range", "get", "set") and len(arguments) <= 4
        else:
            assert set(arguments) <= literals, arguments


TEXT = """
version: 1
commands:
  note.write:
    description: {zh: 记事, en: Write a note}
    arguments: {words: {type: text}}
    examples: {en: [note <words>]}
    effect: [{kind: launch, program: notes, args: [--text, <words>]}]
"""


@given(st.text(min_size=1, max_size=60))
@hypothesis_settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_words_of_the_users_stay_one_argument(programs: Programs, words: str) -> None:
    programs.add("notes")
    [command] = reader.parse(TEXT, "notes").commands
    if not command.arguments[0].allows(words):  # type: ignore[union-attr]  # a text argument
        return
    before = len(programs.calls())
    result = await Executor(reader.parse(TEXT, "notes"), FakeServices()).execute(
        "note.write", {"words": words}
    )
    assert result.status == "done"
    assert programs.calls()[before:] == [["notes", "--text", words]]
