"""How long a server is waited for, and how much of it is read."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest

from kylin_gguf.engine.remote import server as module
from kylin_gguf.engine.remote.server import Server
from kylin_gguf.errors import RemoteFailed, RemoteUnreachable
from kylin_gguf.records import RemoteModel
from tests.chat_server import Asked, ChatServer, answer


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SILENCE_S", 0.5)
    monkeypatch.setattr(module, "MAX_BODY", 1 << 20)


@pytest.fixture
def near(model: RemoteModel) -> Server:
    return Server(model)


def drip(piece: bytes) -> Iterator[bytes]:
    while True:
        yield piece
        time.sleep(0.05)


async def texts(server: Server) -> list[str]:
    return [chunk.text async for chunk in server.events({"messages": []})]


@pytest.mark.parametrize("piece", [b": keep-alive\n\n", b"\n", b"x"], ids=["comments", "lines", "a line"])
async def test_what_keeps_a_connection_alive_is_no_answer(
    server: ChatServer, near: Server, piece: bytes
) -> None:
    server.reply = lambda _: drip(piece)
    with pytest.raises(RemoteUnreachable, match="in time"):
        await texts(near)


async def test_a_refusal_does_not_take_for_ever_either(server: ChatServer, near: Server) -> None:
    server.status = 500
    server.reply = lambda _: drip(b"x")
    with pytest.raises(RemoteUnreachable, match="in time"):
        await texts(near)


async def test_vectors_do_not_take_for_ever_either(server: ChatServer, near: Server) -> None:
    server.reply = lambda _: drip(b" ")
    with pytest.raises(RemoteUnreachable, match="in time"):
        await near.json("embeddings", {})


async def test_a_long_pause_of_the_reader_is_not_the_server_s(server: ChatServer, near: Server) -> None:
    found = ""
    async for chunk in near.events({"messages": []}):
        found += chunk.text
        if chunk.text == "Hel":
            await asyncio.sleep(2 * module.SILENCE_S)
    assert found == "Hello."


async def test_no_more_is_read_than_an_answer_can_need(server: ChatServer, near: Server) -> None:
    def reply(_: Asked) -> Iterator[bytes]:
        yield from [b": " + b"-" * 60000 + b"\n\n" + answer("x")[1]] * 40

    server.reply = reply
    with pytest.raises(RemoteFailed, match="more than"):
        await texts(near)
    server.says(b" " * (2 << 20))
    with pytest.raises(RemoteFailed, match="more than"):
        await near.json("embeddings", {})
