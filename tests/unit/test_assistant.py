"""A conversation in the mode "assistant": commands, questions, consent, follow-ups, chat."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from kylin_gguf import assistant as assistant_module
from kylin_gguf import frames
from kylin_gguf.actuator.interpret import Choice, Interpretation, Interpreter
from kylin_gguf.actuator.reader import load
from kylin_gguf.actuator.shipped import SHIPPED_COMMANDS
from kylin_gguf.actuator.shortlists import IN_PACKAGE, Shortlists
from kylin_gguf.assistant import Assistant, Means
from kylin_gguf.engine.generation import Generation
from kylin_gguf.errors import ExecutorFailed, ExecutorTimeout, InvalidValue, KylinError, NothingToConfirm
from kylin_gguf.execution import Route
from kylin_gguf.records import (
    ADAPTER,
    Execution,
    ExecutorAddress,
    InstalledModel,
    Message,
    ProgressCallback,
    SamplingOptions,
)
from kylin_gguf.sessions import Session

DONE = Execution("done")
MODEL = InstalledModel("m", Path("m.gguf"), 1, writable=False)


class FakeEngine:
    """Says "chat" to everything."""

    def news(self) -> str:
        return ""

    def generate(
        self, generation: Generation, messages: Sequence[Message], options: SamplingOptions, **_: Any
    ) -> None:
        generation.send(frames.text("chat"))
        generation.end("stop", text="chat")


@dataclass
class World:
    """A session with an executor that notes what it is given and answers with ``outcome``."""

    interpreter: Interpreter
    outcome: Execution | KylinError = DONE
    meaning: Interpretation | None = None
    given: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)
    hold: asyncio.Event | None = None

    def __post_init__(self) -> None:
        self.catalogue = self.interpreter.collection.catalogue

        async def interpret(said: str, _: ProgressCallback) -> Interpretation:
            meaning, self.meaning = self.meaning, None
            return meaning or await self.interpreter.interpret(said)

        async def acquire(*_: object) -> Any:
            return FakeEngine()

        means = Means(lambda: self.catalogue, self._route, self._call)

        async def make() -> Assistant:
            return Assistant(means, interpret)

        self.session = Session(MODEL, acquire, make_assistant=make)

    def _route(self, command_id: str) -> Route:
        return Route(self.catalogue.get(command_id), ADAPTER, command_id)

    async def _call(self, executor: ExecutorAddress, command: Mapping[str, Any]) -> Execution:
        assert executor == ADAPTER
        self.given.append((command["command"], command["arguments"]))
        if self.hold:
            await self.hold.wait()
        if isinstance(self.outcome, KylinError):
            raise self.outcome
        return self.outcome

    async def say(self, prompt: str, consent: bool | None = None) -> list[dict[str, Any]]:
        """Say something and return all frames; ``consent`` answers a confirm frame."""
        generation = await self.session.generate({"prompt": prompt, "mode": "assistant"})
        return [frame async for frame in _frames(generation, consent)]


async def _frames(generation: Generation, consent: bool | None = None) -> Any:
    loop, data = asyncio.get_running_loop(), b""
    with generation.stream as stream:
        stream.setblocking(False)
        while chunk := await asyncio.wait_for(loop.sock_recv(stream, 1 << 16), 20):
            *lines, data = (data + chunk).split(b"\n")
            for line in lines:
                frame = json.loads(line)
                yield frame
                if frame["type"] == "confirm" and consent is not None:
                    generation.confirm(consent)
    await generation.finished


def spoken(found: list[dict[str, Any]]) -> str:
    return "".join(frame["text"] for frame in found if frame["type"] == "text")


def kinds(found: list[dict[str, Any]]) -> list[str]:
    return [frame["type"] for frame in found]


@pytest.fixture(scope="module")
def interpreter() -> Interpreter:
    return Interpreter(load(SHIPPED_COMMANDS), Shortlists(IN_PACKAGE).of)


@pytest.fixture
def world(interpreter: Interpreter) -> World:
    return World(interpreter)


async def test_a_command_is_carried_out_and_told(world: World) -> None:
    found = await world.say("把音量调到百分之四十")
    assert kinds(found) == ["command", "result", "text", "end"]
    assert found[0]["command"] == "volume.set" and found[0]["arguments"] == {"level": 40}
    assert found[0]["kylin"] == {"name": "音量控制", "value": "set"} and found[0]["confirm"] is False
    assert found[1] == {"type": "result", "status": "done"}
    assert found[-1] == {"type": "end", "reason": "stop"}
    assert world.given == [("volume.set", {"level": 40})]
    assert "40%" in spoken(found)
    assert [m.content for m in world.session.conversation.context()] == [
        "把音量调到百分之四十",
        spoken(found),
    ]


async def test_the_answer_is_in_the_language_of_the_question(world: World) -> None:
    english = spoken(await world.say("please set volume to ninety percent"))
    assert "90 percent" in english and english.isascii()
    world.outcome = Execution("done", value=35)
    assert "35" in spoken(await world.say("现在的音量是多少"))


async def test_an_executor_has_the_last_word(world: World) -> None:
    world.outcome = Execution("done", text={"zh": "遵命。"})
    assert spoken(await world.say("请静音")) == "遵命。"


async def test_what_asks_for_nothing_is_chat(world: World) -> None:
    found = await world.say("给我讲讲唐朝的历史")
    assert (kinds(found), spoken(found)) == (["text", "end"], "chat")
    assert world.given == []
    long = await world.say("请把下面的文字翻译成英文：" + "音量调到四十。" * 100)
    assert spoken(long) == "chat"


async def test_the_mode_chat_carries_nothing_out(world: World) -> None:
    generation = await world.session.generate({"prompt": "把音量调到百分之四十"})
    assert spoken([f async for f in _frames(generation)]) == "chat"
    assert world.given == []
    with pytest.raises(InvalidValue, match="mode"):
        await world.session.generate({"prompt": "x", "mode": "assist"})


@pytest.mark.parametrize(
    ("outcome", "status", "code"),
    [
        (Execution("unavailable", reason="no such setting"), "unavailable", None),
        (Execution("failed", reason="no sound card"), "failed", None),
        (ExecutorFailed("org.x", "it is gone"), "failed", "actuator.executor-failed"),
        (ExecutorTimeout("org.x", 30), "failed", "actuator.executor-timeout"),
    ],
)
async def test_what_went_wrong_is_told(
    world: World, outcome: Execution | KylinError, status: str, code: str | None
) -> None:
    world.outcome = outcome
    found = await world.say("请静音")
    assert kinds(found) == ["command", "result", "text", "end"]
    assert (found[1]["status"], found[1].get("code")) == (status, code)
    assert found[1]["reason"]
    assert spoken(found).startswith("抱歉")
    assert spoken(await world.say("再大一点")) != spoken(
        found
    )  # it was not done: there is nothing to go on from


# --- Consent ------------------------------------------------------------------------------------------


async def test_a_risky_command_waits_for_yes(world: World) -> None:
    found = await world.say("禁用触控板吧", consent=True)
    assert kinds(found) == ["command", "confirm", "result", "text", "end"]
    assert found[1]["seconds"] == assistant_module.CONFIRM_S and "触控板" in found[1]["text"]
    assert world.given == [("touchpad.set", {"state": "off"})]


async def test_no_leaves_it(world: World) -> None:
    found = await world.say("禁用触控板吧", consent=False)
    assert kinds(found) == ["command", "confirm", "result", "text", "end"]
    assert found[2]["status"] == "declined"
    assert world.given == []


async def test_silence_leaves_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assistant_module, "CONFIRM_S", 0.1)
    found = await world.say("please disable the touchpad")
    assert [f["status"] for f in found if f["type"] == "result"] == ["expired"]
    assert found[-1]["reason"] == "stop"
    assert world.given == []


async def test_yes_is_for_nothing_when_nothing_waits(world: World) -> None:
    generation = await world.session.generate({"prompt": "给我讲讲唐朝的历史", "mode": "assistant"})
    with pytest.raises(NothingToConfirm):
        generation.confirm(True)
    assert [f async for f in _frames(generation)]
    with pytest.raises(NothingToConfirm):
        generation.confirm(True)


async def test_cancelling_a_command_that_waits(world: World) -> None:
    generation = await world.session.generate({"prompt": "禁用触控板吧", "mode": "assistant"})
    found = []
    async for frame in _frames(generation):
        found.append(frame)
        if frame["type"] == "confirm":
            generation.cancel()
    assert found[-1] == {"type": "end", "reason": "cancelled"}
    assert world.given == [] and world.session.conversation.entries == ()
    assert spoken(await world.say("请静音"))  # the session goes on


async def test_a_client_that_leaves_gives_no_consent(world: World) -> None:
    generation = await world.session.generate({"prompt": "禁用触控板吧", "mode": "assistant"})
    stream = _frames(generation)
    async for frame in stream:
        if frame["type"] == "confirm":
            break
    generation.stream.shutdown(socket.SHUT_RDWR)
    generation.stream.close()
    assert (await asyncio.wait_for(generation.finished, 20)).reason == "cancelled"
    assert world.given == []


async def test_cancelling_while_an_executor_works(world: World) -> None:
    world.hold = asyncio.Event()
    generation = await world.session.generate({"prompt": "请静音", "mode": "assistant"})
    async with asyncio.timeout(20):
        while not world.given:
            await asyncio.sleep(0.01)
    generation.cancel()
    assert [f async for f in _frames(generation)][-1]["reason"] == "cancelled"


# --- One after another --------------------------------------------------------------------------------


async def test_a_bit_more_means_the_last_command(world: World) -> None:
    await world.say("把音量调到百分之四十")
    world.outcome = Execution("done", value=50)
    assert "50%" in spoken(await world.say("再大一点"))
    assert "50%" in spoken(await world.say("50"))
    await world.say("再大一点")
    await world.say("a bit more")
    assert "60 percent" in spoken(await world.say("60"))
    assert "70%" in spoken(await world.say("屏幕亮度调到七十"))
    world.outcome = Execution("done", value=60)
    await world.say("再小一点")
    assert world.given == [
        ("volume.set", {"level": 40}),
        ("volume.set", {"level": "+"}),
        ("volume.set", {"level": 50}),
        ("volume.set", {"level": "+"}),
        ("volume.set", {"level": "+"}),
        ("volume.set", {"level": 60}),
        ("brightness.set", {"level": 70}),
        ("brightness.set", {"level": "-"}),
    ]


@pytest.mark.parametrize("between", ["给我讲个笑话", "clear", "chat"])
async def test_chat_between_ends_what_can_be_followed(world: World, between: str) -> None:
    await world.say("把音量调到百分之四十")
    if between == "clear":
        world.session.clear()
    elif between == "chat":
        assert [f async for f in _frames(await world.session.generate({"prompt": "hi"}))]
    else:
        await world.say(between)
    await world.say("再长一点")
    await world.say("60")
    assert world.given == [("volume.set", {"level": 40})]


def two_readings(command: str | None = None) -> Interpretation:
    volume = Choice("volume.set", {"level": "+"}, 0.45)
    brightness = Choice("brightness.set", {"level": "+"}, 0.4)
    if command is None:
        return Interpretation(None, {}, None, 0.1, False, (volume, brightness), "model", {})
    return Interpretation("volume.set", {"level": "+"}, None, 0.45, False, (brightness,), "model", {})


@pytest.mark.parametrize("command", [None, "volume.set"])
@pytest.mark.parametrize(
    ("answer", "picked"),
    [
        ("第一个", "volume.set"),
        ("后一个", "brightness.set"),
        ("屏幕亮度", "brightness.set"),
        ("the volume please", "volume.set"),
        ("2", "brightness.set"),
    ],
)
async def test_close_readings_are_asked_back(
    world: World, command: str | None, answer: str, picked: str
) -> None:
    world.meaning = two_readings(command)
    found = await world.say("调高一点")
    assert kinds(found) == ["question", "text", "end"]
    assert [one["command"] for one in found[0]["readings"]] == ["volume.set", "brightness.set"]
    assert found[0]["text"] == spoken(found) and "音量" in spoken(found) and "亮度" in spoken(found)
    assert world.given == []
    await world.say(answer)
    assert world.given == [(picked, {"level": "+"})]


async def test_neither_is_an_answer_and_a_new_request_another(world: World) -> None:
    world.meaning = two_readings()
    await world.say("调高一点")
    assert spoken(await world.say("算了")) == "好的，不做了。"
    world.meaning = two_readings()
    await world.say("调高一点")
    await world.say("打开一下蓝牙")
    assert world.given == [("bluetooth.set", {"state": "on"})]


async def test_a_clear_reading_is_not_asked_back(world: World) -> None:
    sure = Interpretation(
        "volume.mute", {}, None, 0.9, False, (Choice("volume.unmute", {}, 0.05),), "model", {}
    )
    world.meaning = sure
    assert kinds(await world.say("静静")) == ["command", "result", "text", "end"]


async def test_what_is_cancelled_at_once_does_nothing(world: World) -> None:
    generation = await world.session.generate({"prompt": "请静音", "mode": "assistant"})
    generation.cancel()
    assert [f async for f in _frames(generation)] == [{"type": "end", "reason": "cancelled"}]
    assert world.given == []
