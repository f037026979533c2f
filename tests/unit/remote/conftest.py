"""A server of this machine, and the pool with a worker that asks it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from kylin_gguf import config
from kylin_gguf.engine.generation import Generation
from kylin_gguf.pool import EnginePool
from kylin_gguf.records import RemoteModel
from kylin_gguf.sessions import Session
from tests.chat_server import ChatServer, serve

TOKEN = "sk-nobody-is-to-see-this"


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with serve() as running:
        yield running


@pytest.fixture
def model(server: ChatServer, tmp_path: Path) -> RemoteModel:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    (tmp_path / "token").chmod(0o600)
    return RemoteModel("fleet", "Fleet", server.url, "big", tmp_path / "token")


@pytest.fixture
async def pool(tmp_path: Path) -> AsyncIterator[EnginePool]:
    engines = EnginePool(config.load({"cache_dir": tmp_path}))
    yield engines
    await engines.close()


@pytest.fixture
def session(model: RemoteModel, pool: EnginePool) -> Session:
    return Session(model, pool.acquire)


async def frames_of(generation: Generation) -> list[dict[str, Any]]:
    """Read a stream to its end, as a client would."""
    loop, data = asyncio.get_running_loop(), b""
    with generation.stream as stream:
        stream.setblocking(False)
        while chunk := await asyncio.wait_for(loop.sock_recv(stream, 1 << 16), 30):
            data += chunk
    return [json.loads(line) for line in data.splitlines()]


async def ask(session: Session, prompt: str = "Hi", **options: Any) -> list[dict[str, Any]]:
    """Return the frames of one answer, but for the notice of its being loaded."""
    frames = await frames_of(await session.generate({"prompt": prompt, **options}))
    return [frame for frame in frames if frame.get("code") != "loading"]
