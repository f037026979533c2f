"""Someone at a terminal who talks, is asked, and says yes or no."""

from __future__ import annotations

import asyncio
import os
import pty
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from kylin_gguf.bus.client import Client
from tests.desktop.conftest import Desktop
from tests.tiny_model import write_model

KEY = ("org.ukui.peripherals-touchpad", "touchpad-enabled")
Talk = Callable[[str, str], Awaitable[None]]


@asynccontextmanager
async def terminal(desktop: Desktop, *arguments: str) -> AsyncIterator[Talk]:
    """Run the program on a terminal; the function waits for a text and then types a line."""
    leader, follower = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "kylin_gguf", *arguments),
        stdin=follower,
        stdout=follower,
        stderr=follower,
        env=desktop.environment | {"TERM": "dumb"},
        start_new_session=True,
    )
    os.close(follower)
    reader = asyncio.StreamReader()
    with os.fdopen(leader, "r+b", buffering=0) as screen:
        protocol = asyncio.StreamReaderProtocol(reader)
        await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, screen)

        async def talk(expected: str, typed: str) -> None:
            await asyncio.wait_for(reader.readuntil(expected.encode()), 30)
            if typed:
                os.write(leader, f"{typed}\n".encode())

        yield talk
        assert await asyncio.wait_for(process.wait(), 30) == 0


async def test_a_conversation_that_asks(desktop: Desktop, client: Client, tmp_path: Path) -> None:
    model = str(write_model(tmp_path / "tiny.gguf"))
    async with terminal(desktop, "chat", "--assistant", "-m", model) as talk:
        await talk("> ", "关闭触控板")
        await talk("[y/N] ", "y")
        await talk("触控板已关闭。", "")
        assert desktop.setting(*KEY) == "false"
        await talk("> ", "turn on the touchpad")
        await talk("[y/N] ", "no")
        await talk("I will leave it", "")
        assert desktop.setting(*KEY) == "false"
        await talk("> ", "现在音量多少")
        await talk("现在的音量是35%。", "")
        await talk("> ", "/exit")


async def test_a_single_command_that_asks(desktop: Desktop, client: Client) -> None:
    async with terminal(desktop, "act", "--run", "打开触控板") as talk:
        await talk("[y/N] ", "yes")
        await talk("Done.", "")
    assert desktop.setting(*KEY) == "true"
