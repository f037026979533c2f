"""Sessions of the real service on a real bus: what they hold, what is kept, and whose it is."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from kylin_gguf import errors
from kylin_gguf.bus import names, values
from kylin_gguf.records import Settings
from tests.bus import echo
from tests.bus.echo import connected


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return echo.settings(tmp_path)


Serving = Callable[[], AbstractAsyncContextManager[Any]]


@pytest.fixture
def serving(settings: Settings, bus_address: str) -> Serving:
    """A function that runs the service for as long as its context."""
    return lambda: echo.serving(settings, bus_address)


async def said(session: Any) -> list[tuple[int, str, bool]]:
    return [(entry.id, entry.message.content, entry.counts) for entry in await session.entries()]


async def test_messages_have_ids_and_can_be_selected(serving: Serving, bus_address: str) -> None:
    async with serving(), connected(bus_address) as client:
        session = await client.create_session(system="Be brief.")
        assert await session.complete("a") == "first:2 a"
        assert await session.complete("b") == "first:4 b"
        await session.select_context([4, 5])
        assert await said(session) == [
            (1, "Be brief.", True),
            (2, "a", False),
            (3, "first:2 a", False),
            (4, "b", True),
            (5, "first:4 b", True),
        ]
        assert await session.complete("c") == "first:4 c"
        with pytest.raises(errors.InvalidValue):
            await session.select_context([99])
        await session.set_context((await session.entries())[:3])
        assert await session.complete("d") == "first:2 d"
        await session.clear()
        assert await said(session) == [(1, "Be brief.", True)]
        assert await session.complete("e") == "first:2 e"
        assert [entry.id for entry in await session.entries()] == [1, 10, 11]


@pytest.mark.parametrize("ids", [["x"], ["-1"], ["١"], [""], ["9" * 99]])
async def test_ids_are_decimal_numbers(serving: Serving, bus_address: str, ids: list[str]) -> None:
    async with serving(), connected(bus_address) as client:
        session = await client.create_session()
        with pytest.raises(errors.InvalidValue):
            await client.call(names.SESSION, "SelectContext", "as", ids, path=session.path)
        message = {"role": "user", "content": "x", "id": ids[0]}
        with pytest.raises(errors.InvalidValue):
            await client.call(names.SESSION, "SetContext", "aa{ss}", [message], path=session.path)


async def test_another_model_goes_on_and_the_owner_is_told(serving: Serving, bus_address: str) -> None:
    async with serving(), connected(bus_address) as client:
        told: list[Any] = []
        client._connection.on_signal = told.append
        session = await client.create_session()
        assert await session.complete("a") == "first:1 a"
        for _ in range(2):  # the second time nothing changes
            await session.set_model("second")
        assert await session.complete("b") == "second:3 b"
        assert await session.model() == "second"
        changes = [message.body for message in told if message.member == "PropertiesChanged"]
        assert [(body[0], values.plain(body[1])) for body in changes] == [
            (names.SESSION, {"Model": "second"})
        ]
        with pytest.raises(errors.UnknownModel):
            await session.set_model("third")
        assert await session.model() == "second"


async def test_export_and_import(serving: Serving, bus_address: str) -> None:
    async with serving(), connected(bus_address) as client:
        session = await client.create_session(system="Be brief.")
        await session.complete("你好")
        await session.select_context([3])
        document = await session.export()
        assert (document["format"], document["model"]) == ("kylin-gguf-conversation", "first")
        other = await client.create_session("second")
        await other.import_(document)
        assert await said(other) == await said(session)
        assert await other.model() == "second"
        for bad in ("", "[]", "{", "[" * 100_000, json.dumps(document | {"version": 9})):
            with pytest.raises(errors.InvalidValue):
                await client.call(names.SESSION, "Import", "s", bad, path=other.path)
        assert await said(other) == await said(session)


# --- Kept sessions ------------------------------------------------------------------------------------


async def test_a_kept_session_goes_on_after_a_restart(serving: Serving, bus_address: str) -> None:
    async with serving(), connected(bus_address) as client:
        session = await client.create_session(system="Be brief.", overflow="refuse", keep=True)
        await session.complete("a")
        await session.select_context([])
        kept_as = await session.kept_as()
        before = await said(session)
        assert not await (await client.create_session()).kept_as()
    async with serving(), connected(bus_address) as client:
        (listed,) = await client.list_sessions()
        assert (listed["id"], listed["title"], listed["model"], listed["messages"], listed["open"]) == (
            *(kept_as, "a", "first", 3),
            False,
        )
        session = await client.open_session(kept_as)
        assert await said(session) == before
        await session.set_model("second")
        assert await session.complete("b") == "second:2 b"
        assert (await client.list_sessions())[0]["open"]
    async with serving(), connected(bus_address) as client:
        session = await client.open_session(kept_as)
        assert await session.model() == "second"
        assert [text for _, text, _ in await said(session)][-2:] == ["b", "second:2 b"]


async def test_an_open_session_is_its_connections_own(serving: Serving, bus_address: str) -> None:
    async with serving(), connected(bus_address) as client, connected(bus_address) as stranger:
        session = await client.create_session(keep=True)
        kept_as = await session.kept_as()
        assert (await client.open_session(kept_as)).path == session.path
        assert await stranger.list_sessions() == []
        for forbidden in (stranger.open_session, stranger.delete_session):
            with pytest.raises(errors.AccessDenied):
                await forbidden(kept_as)
        await session.close()
        assert [one["id"] for one in await stranger.list_sessions()] == [kept_as]
        await stranger.open_session(kept_as)
        with pytest.raises(errors.AccessDenied):
            await client.open_session(kept_as)


async def test_other_users_are_turned_away(
    serving: Serving, bus_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(), connected(bus_address) as client:
        kept_as = await (await client.create_session(keep=True)).kept_as()
        user = os.getuid()
        monkeypatch.setattr(os, "getuid", lambda: user + 1)
        for call in (
            client.list_sessions(),
            client.open_session(kept_as),
            client.delete_session(kept_as),
            client.create_session(keep=True),
        ):
            with pytest.raises(errors.AccessDenied):
                await call
        await client.create_session()


async def test_a_deleted_session_goes_on_without_being_kept(serving: Serving, bus_address: str) -> None:
    async with serving(), connected(bus_address) as client:
        session = await client.create_session(keep=True)
        kept_as = await session.kept_as()
        await client.delete_session(kept_as)
        assert not await session.kept_as()
        assert await session.complete("a") == "first:1 a"
        assert await client.list_sessions() == []
        for gone in (client.open_session, client.delete_session):
            with pytest.raises(errors.UnknownKeptSession):
                await gone(kept_as)


async def test_a_session_whose_model_is_gone_opens_with_another(
    serving: Serving, bus_address: str, settings: Settings
) -> None:
    async with serving(), connected(bus_address) as client:
        kept_as = await (await client.create_session("second", keep=True)).kept_as()
    (settings.models_dir / "second.gguf").unlink()
    async with serving(), connected(bus_address) as client:
        with pytest.raises(errors.FileMissing):
            await client.open_session(kept_as)
        session = await client.open_session(kept_as, model="first")
        assert await session.model() == "first"


async def test_a_full_disk_loses_no_turn(
    serving: Serving, bus_address: str, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(), connected(bus_address) as client:
        session = await client.create_session(keep=True)
        kept_as = await session.kept_as()
        database = settings.state_dir / "sessions" / "sessions.sqlite3"
        with sqlite3.connect(database) as locker:
            locker.execute("BEGIN EXCLUSIVE")
            assert await session.complete("a") == "first:1 a"
            locker.rollback()
        locker.close()
        assert "cannot be used" in caplog.text
        await session.complete("b")
    async with serving(), connected(bus_address) as client:
        assert len(await said(await client.open_session(kept_as))) == 4


async def test_one_turn_in_one_call(serving: Serving, bus_address: str) -> None:
    async with serving(), connected(bus_address) as client:
        session = await client.create_session(keep=True)
        kept_as = await session.kept_as()
        with pytest.raises(errors.Busy):
            await client.ask(kept_as, "x")
        await session.close()
        assert await client.ask(kept_as, "a") == "first:1 a"
        asking = asyncio.ensure_future(client.ask(kept_as, "FOREVER"))
        async with connected(bus_address) as stranger:
            while not (await client.list_sessions())[0]["open"]:
                await asyncio.sleep(0.01)
            with pytest.raises(errors.AccessDenied):
                await stranger.ask(kept_as, "x")
            await client.close()
            with pytest.raises(errors.ServiceUnavailable):
                await asking
            while not (listed := await stranger.list_sessions()) or listed[0]["messages"] < 4:
                await asyncio.sleep(0.01)
            assert await stranger.ask(kept_as, "b") == "first:5 b"


async def test_a_session_that_answers_one_call_is_not_shared(serving: Serving, bus_address: str) -> None:
    async with serving(), connected(bus_address) as client:
        session = await client.create_session(keep=True)
        kept_as = await session.kept_as()
        await session.close()
        asking = {asyncio.ensure_future(client.ask(kept_as, "FOREVER")) for _ in range(2)}
        (refused,), (going_on,) = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
        for too_many in (refused, client.open_session(kept_as)):
            with pytest.raises(errors.Busy, match="holders"):
                await too_many
        assert [one["open"] for one in await client.list_sessions()] == [True]
        assert not going_on.done()
        going_on.cancel()


async def test_frames_come_as_signals_to_a_client_without_descriptors(
    serving: Serving, bus_address: str
) -> None:
    async with serving(), connected(bus_address) as client, connected(bus_address) as stranger:
        heard: list[Any] = []
        overheard: list[Any] = []
        client._connection.on_signal, stranger._connection.on_signal = heard.append, overheard.append
        await stranger._connection.daemon("AddMatch", "s", ["type='signal',member='Frames'"])
        session = await client.create_session()
        words = " ".join(f"词{number}" for number in range(100))
        began = asyncio.get_running_loop().time()
        reply = await client.call(names.SESSION, "Stream", "a{sv}", {"prompt": words}, path=session.path)
        async with asyncio.timeout(20):
            while not heard or heard[-1].member != "Finished":
                await asyncio.sleep(0.01)
        seconds = asyncio.get_running_loop().time() - began
        assert {signal.path for signal in heard} == {reply.body[0]}
        assert [signal.member for signal in heard[:-1]] == ["Frames"] * (len(heard) - 1)
        assert 1 < len(heard) <= 20 * seconds + 2
        frames = [json.loads(line) for signal in heard[:-1] for line in signal.body[0]]
        assert [frame["type"] for frame in frames] == ["text"] * 101 + ["end"]
        assert "".join(frame["text"] for frame in frames[:-1]) == f"first:1 {words}"
        assert overheard == []


async def test_a_stream_of_signals_is_cancelled(serving: Serving, bus_address: str) -> None:
    async with serving(), connected(bus_address) as client:
        heard: list[Any] = []
        client._connection.on_signal = heard.append
        session = await client.create_session()
        options = {"prompt": "FOREVER"}
        reply = await client.call(names.SESSION, "Stream", "a{sv}", options, path=session.path)
        async with asyncio.timeout(20):
            while "FOREVER" not in str([signal.body for signal in heard]):
                await asyncio.sleep(0.01)
            await client.call(names.REQUEST, "Cancel", path=reply.body[0])
            while not heard or heard[-1].member != "Finished":
                await asyncio.sleep(0.01)
        assert heard[-1].body[0] == "cancelled"
        assert heard[-2].body[0][-1] == '{"type":"end","reason":"cancelled"}'
        await client.call(names.SESSION, "Stream", "a{sv}", options, path=session.path)
    async with asyncio.timeout(20):  # whose client has left
        while echo.EchoEngine.running:
            await asyncio.sleep(0.01)
