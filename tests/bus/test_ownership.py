"""What belongs to one connection is nothing to others: every member, as the introspection data has them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from dbus_next.message import Message as BusMessage

from kylin_gguf import errors
from kylin_gguf.bus import names
from kylin_gguf.bus.client import Client
from kylin_gguf.bus.client_session import Answer, ClientSession
from tests.bus import echo
from tests.bus.members import Call, calls

OWNED: dict[str, list[Call]] = {
    interface: list(calls(interface)) for interface in (names.SESSION, names.REQUEST, names.JOB)
}


@dataclass
class World:
    """A client with a session, an answer and a job, and a stranger."""

    client: Client
    stranger: Client
    session: ClientSession
    answer: Answer
    job: str
    overheard: list[BusMessage]

    def path(self, interface: str) -> str:
        return {names.SESSION: self.session.path, names.REQUEST: self.answer.path, names.JOB: self.job}[
            interface
        ]


@pytest.fixture
async def world(tmp_path: Path, bus_address: str) -> AsyncIterator[World]:
    async with (
        echo.serving(echo.settings(tmp_path), bus_address),
        echo.connected(bus_address) as client,
        echo.connected(bus_address) as stranger,
    ):
        overheard: list[BusMessage] = []
        stranger._connection.on_signal = overheard.append
        await stranger._connection.daemon("AddMatch", "s", [f"type='signal',sender='{names.BUS_NAME}'"])
        session = await client.create_session(keep=True)
        await session.complete("mine")
        reply = await client.call(names.MANAGER, "Load", "s", "second", "a{sv}", {})
        answer = await session.generate("FOREVER")
        yield World(client, stranger, session, answer, reply.body[0], overheard)


async def test_no_member_answers_a_stranger(world: World) -> None:
    for interface, found in OWNED.items():
        for call in found:
            with pytest.raises(errors.KylinError) as refusal:
                await world.stranger._connection.call(call.message(world.path(interface)), 20)
            assert isinstance(refusal.value, errors.AccessDenied), call
    assert [entry.message.content for entry in await world.session.entries()] == ["mine", "first:1 mine"]
    assert await world.session.model() == "first"
    assert echo.EchoEngine.running, "the answer goes on"
    await world.answer.cancel()
    assert [frame["type"] async for frame in world.answer] == ["text", "text", "end"]


async def test_a_stranger_neither_sees_nor_hears(world: World) -> None:
    for path in (names.ROOT, f"{names.ROOT}/session", f"{names.ROOT}/request", f"{names.ROOT}/job"):
        message = BusMessage(names.BUS_NAME, path, names.INTROSPECTABLE, "Introspect")
        try:
            seen = str((await world.stranger._connection.call(message, 20)).body[0])
        except errors.UnknownObject:
            seen = ""
        assert "<node name=" not in seen
    assert await world.stranger.list_sessions() == []
    await world.session.set_model("second")
    await world.answer.cancel()
    await world.session.close()
    await asyncio.sleep(0.1)
    await world.stranger.list_models()  # whatever was sent before this reply has arrived
    heard = {(message.path, message.member) for message in world.overheard}
    assert {path for path, _ in heard} <= {names.ROOT, names.DAEMON_PATH}
