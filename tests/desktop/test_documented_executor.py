"""The executor that the documentation shows works as it stands there."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest

from kylin_gguf.bus.client import Client
from kylin_gguf.errors import InvalidValue
from tests.desktop.conftest import Desktop
from tests.tiny_model import write_model

PAGE = Path(__file__).parents[2] / "docs" / "executing.md"


async def test_the_documented_executor(client: Client, desktop: Desktop, tmp_path: Path) -> None:
    code = PAGE.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    program = subprocess.Popen(["/usr/bin/python3", "-c", code], env=desktop.environment)
    try:
        async with asyncio.timeout(20):
            while "lamp/lamp.level" not in {c["id"] for c in await client.list_commands()}:
                await asyncio.sleep(0.1)
        assert await client.execute("lamp/lamp.level", {"level": 30}) == {"status": "done"}
        session = await client.create_session(str(write_model(tmp_path / "tiny.gguf")))
        answer = await session.generate("台灯调到40", mode="assistant")
        frames = [frame async for frame in answer]
        assert [f["text"] for f in frames if f["type"] == "text"] == ["台灯亮度是40%。"]
        with pytest.raises(InvalidValue):
            await client.execute("lamp/lamp.level", {"level": 300})
    finally:
        program.kill()
        program.wait()
    async with asyncio.timeout(20):
        while "lamp/lamp.level" in {c["id"] for c in await client.list_commands()}:
            await asyncio.sleep(0.1)
