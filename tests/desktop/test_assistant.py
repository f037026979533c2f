"""A chat client's conversation with a desktop: words in, frames out, things done in between."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest

from kylin_gguf.bus import names
from kylin_gguf.bus.client import Client
from kylin_gguf.bus.client_session import ClientSession
from kylin_gguf.bus.connection import Connection
from kylin_gguf.errors import AccessDenied, NothingToConfirm
from tests.desktop.conftest import Desktop
from tests.desktop.stand_ins import powered
from tests.tiny_model import write_model


@pytest.fixture
async def session(client: Client, tmp_path: Path) -> ClientSession:
    """A conversation with a model that could not be loaded: what is clear must not need it."""
    return await client.create_session(str(write_model(tmp_path / "tiny.gguf")))


async def say(session: ClientSession, words: str, consent: bool | None = None) -> list[dict[str, Any]]:
    found = []
    answer = await session.generate(words, mode="assistant")
    async for frame in answer:
        found.append(frame)
        if frame["type"] == "confirm" and consent is not None:
            await answer.confirm(consent)
    return found


def spoken(found: list[dict[str, Any]]) -> str:
    return "".join(frame["text"] for frame in found if frame["type"] == "text")


async def test_a_conversation(session: ClientSession, desktop: Desktop) -> None:
    found = await say(session, "把音量调到百分之四十")
    assert [frame["type"] for frame in found] == ["command", "result", "text", "end"]
    assert desktop.media.calls()[-1] == "setDefaultOutputVolume 40"
    more = await say(session, "再大一点")
    assert desktop.media.calls()[-1] == "setDefaultOutputVolume 50"
    assert "50%" in spoken(more)
    asked = await say(session, "现在音量多少")
    assert "50" in spoken(asked)
    assert "bluetooth" in spoken(await say(session, "turn on bluetooth")).lower()
    assert powered(desktop.system)
    said = [message.content for message in await session.messages()]
    assert said[:4] == ["把音量调到百分之四十", spoken(found), "再大一点", spoken(more)]


async def test_what_fails_is_told(session: ClientSession) -> None:
    found = await say(session, "静音")
    assert found[1]["status"] == "failed" and "no sound card" in found[1]["reason"]
    assert spoken(found).startswith("抱歉")
    missing = await say(session, "打开应用商店")
    assert missing[1] == {
        "type": "result",
        "status": "unavailable",
        "reason": "kylin-software-center is not installed",
    }


async def test_consent(session: ClientSession, desktop: Desktop) -> None:
    key = ("org.ukui.peripherals-touchpad", "touchpad-enabled")
    await say(session, "打开触控板", consent=True)
    declined = await say(session, "关闭触控板", consent=False)
    assert [f["status"] for f in declined if f["type"] == "result"] == ["declined"]
    assert desktop.setting(*key) == "true"
    done = await say(session, "关闭触控板", consent=True)
    assert [f["status"] for f in done if f["type"] == "result"] == ["done"]
    assert desktop.setting(*key) == "false"


async def test_nobody_else_says_yes(session: ClientSession, desktop: Desktop) -> None:
    stranger = await Connection.connect(desktop.address)
    refused = []
    answer = await session.generate("打开触控板", mode="assistant")
    async for frame in answer:
        if frame["type"] == "confirm":
            theirs = Client(stranger, await stranger.owner(names.BUS_NAME))
            with pytest.raises(AccessDenied):
                await theirs.call(names.REQUEST, "Confirm", "b", True, path=answer.path, timeout=20)
            refused.append(frame)
            await answer.confirm(False)
    assert refused
    await stranger.close()


async def test_consent_comes_too_late(session: ClientSession, desktop: Desktop) -> None:
    answer = await session.generate("打开触控板", mode="assistant")
    async for frame in answer:
        if frame["type"] == "confirm":
            await answer.cancel()
    with pytest.raises(NothingToConfirm):
        await answer.confirm(True)
    assert frame == {"type": "end", "reason": "cancelled"}


async def test_a_client_that_leaves_while_it_is_asked(
    desktop: Desktop, client: Client, tmp_path: Path
) -> None:
    before = desktop.setting("org.ukui.peripherals-touchpad", "touchpad-enabled")
    leaving = await client.create_session(str(write_model(tmp_path / "leaving.gguf")))
    async for frame in await leaving.generate("打开触控板", mode="assistant"):
        if frame["type"] == "confirm":
            break
    await leaving.close()
    staying = await client.create_session(str(write_model(tmp_path / "staying.gguf")))
    assert (await say(staying, "现在音量多少"))[-1]["reason"] == "stop"
    assert desktop.setting("org.ukui.peripherals-touchpad", "touchpad-enabled") == before


async def test_the_command_line_carries_out(desktop: Desktop, client: Client) -> None:
    async def act(*arguments: str) -> tuple[int, str, str]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "kylin_gguf", "act", "--run", *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=desktop.environment,
        )
        output, complaints = await process.communicate()
        return process.returncode or 0, output.decode(), complaints.decode()

    status, output, _ = await act("把音量调到百分之三十")
    assert (status, output.splitlines()[-1]) == (0, "Done.")
    assert desktop.media.calls()[-1] == "setDefaultOutputVolume 30"
    status, output, _ = await act("--json", "现在音量多少")
    assert '"result": {"status": "done", "value": 30}' in output
    status, _, complaints = await act("关闭触控板")
    assert status == 62 and "consent" in complaints
    status, output, _ = await act("--yes", "关闭触控板")
    assert (status, output.splitlines()[-1]) == (0, "Done.")
    status, output, _ = await act("打开应用商店")
    assert (status, output.splitlines()[-1]) == (1, "Not available: kylin-software-center is not installed")
