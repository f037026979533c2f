"""A server's model through the real service on a real bus: the same face, marked, and never by itself."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from kylin_gguf import catalogue, config
from kylin_gguf.bus import names, values
from kylin_gguf.bus.client import Client
from kylin_gguf.bus.client_session import ClientSession
from kylin_gguf.bus.server import Server
from kylin_gguf.cli import monitor_rows
from kylin_gguf.cli.watch import Speeds
from kylin_gguf.errors import ModelNotInstalled, NotLocal, UnknownOption, UnsupportedModel
from kylin_gguf.service import Service
from kylin_gguf.store import Store
from tests.bus.conftest import Connect
from tests.chat_server import ChatServer, delta, serve
from tests.unit.models.test_catalogue import document, entry

TOKEN = "sk-nobody-is-to-see-this"


@pytest.fixture
def far() -> Iterator[ChatServer]:
    with serve() as running:
        yield running


@pytest.fixture
def host(far: ChatServer) -> str:
    return far.url.split("/")[2]


@pytest.fixture
def settings(far: ChatServer, tmp_path: Path) -> dict[str, str]:
    """What the service and the commands are told: a catalogue with two servers, and no model on disk."""
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "token").chmod(0o600)
    server = {"url": far.url, "model": "big", "token_file": "token"}
    fleet = {"name": "fleet", "title": "Fleet", "remote": server}
    known = document(entry(), fleet, fleet | {"name": "other"})
    (tmp_path / "models.yaml").write_text(yaml.safe_dump(known), encoding="utf-8")
    places = {name: tmp_path / name for name in ("models_dir", "cache_dir", "state_dir", "runtime_dir")}
    given = places | {"catalogue": tmp_path / "models.yaml", "system_model_dirs": ""}
    return {f"KYLIN_GGUF_{name.upper()}": str(value) for name, value in given.items()}


@pytest.fixture
def service(settings: dict[str, str]) -> Service:
    found = config.load({}, settings)
    return Service(found, Store(found, catalogue.load(found.catalogue)))


async def frames_of(session: ClientSession, prompt: str = "Hi", **options: object) -> list[dict[str, Any]]:
    frames = [frame async for frame in await session.generate(prompt, **options)]
    return [frame for frame in frames if frame.get("code") != "loading"]


async def listed(client: Client) -> dict[str, dict[str, Any]]:
    rows = values.plain((await client.call(names.MANAGER, "ListModels")).body[0])
    return {row["name"]: row for row in rows}


async def test_it_answers_in_the_same_frames_and_is_marked_everywhere(client: Client, host: str) -> None:
    rows = await listed(client)
    assert (rows["fleet"]["local"], rows["fleet"]["remote"]) == (False, host)
    assert rows["tiny-1b"]["local"] is True and "remote" not in rows["tiny-1b"]
    session = await client.create_session("fleet")
    assert (await session.model(), await session.remote()) == ("fleet", host)
    frames = await frames_of(session)
    assert frames[0] == {"type": "notice", "code": "remote", "host": host}
    assert [frame["type"] for frame in frames[1:]] == ["text", "text", "text", "usage", "end"]
    (loaded,) = (await client.properties())["LoadedModels"]
    assert (loaded["name"], loaded["local"], loaded["remote"]) == ("fleet", False, host)
    assert not {"path", "placement"} & set(loaded)
    assert (await listed(client))["fleet"]["loaded"] is True
    (counted,) = (await client.statistics())["models"]
    assert (counted["remote"], counted["requests"]) == (host, 1)
    assert await session.complete("And?") == "Hello."


async def test_the_monitor_names_the_server(client: Client, host: str) -> None:
    await frames_of(await client.create_session("fleet"))
    found = await client.properties() | {"Statistics": await client.statistics()}
    (row,) = monitor_rows.model_rows(found, Speeds().since_last(found["Statistics"]))
    assert row[:2] == ("fleet", host)
    assert monitor_rows.device_rows(found)


async def test_it_is_used_only_where_it_is_named(client: Client, far: ChatServer) -> None:
    assert (await client.properties())["DefaultModel"] == ""
    with pytest.raises(ModelNotInstalled):
        await client.create_session()
    with pytest.raises(ModelNotInstalled):
        await client.call(names.MANAGER, "Prewarm", "s", "")
    with pytest.raises(ModelNotInstalled):
        await client.call(names.MANAGER, "Plan", "s", "", "a{sv}", {})
    await client.interpret("打开蓝牙")
    assert not far.asked


REFUSED: dict[str, tuple[str, tuple[object, ...]]] = {
    "Plan": (names.MANAGER, ("s", "fleet", "a{sv}", {})),
    "Prewarm": (names.MANAGER, ("s", "fleet")),
    "Remove": (names.MANAGER, ("s", "fleet")),
    "Interpret": (names.ACTUATOR, ("s", "打开蓝牙", "a{sv}", {"model": "fleet"})),
}


@pytest.mark.parametrize("member", REFUSED)
async def test_what_needs_a_model_of_this_machine_is_refused(
    client: Client, far: ChatServer, member: str
) -> None:
    interface, arguments = REFUSED[member]
    with pytest.raises(NotLocal):
        await client.call(interface, member, *arguments)
    assert not far.asked


async def test_loading_sends_nothing_and_unloading_ends_it(client: Client, far: ChatServer) -> None:
    await client.load("fleet")
    assert (await listed(client))["fleet"]["loaded"] is True
    with pytest.raises(NotLocal):
        await client.load("fleet", learn=True)
    await client.unload("fleet")
    assert (await listed(client))["fleet"]["loaded"] is False
    assert not far.asked


async def test_options_that_it_does_not_have_are_refused_in_the_call(client: Client, far: ChatServer) -> None:
    session = await client.create_session("fleet")
    with pytest.raises(UnknownOption, match="top_k"):
        await session.generate("Hi", top_k=3)
    with pytest.raises(NotLocal):
        await session.generate("Turn it up", mode="assistant")
    assert not far.asked


async def test_vectors_come_from_the_server_if_it_makes_any(client: Client, far: ChatServer) -> None:
    far.says(b'{"data": [{"index": 0, "embedding": [0, 5]}]}')
    reply = await client.call(names.MANAGER, "Embed", "s", "fleet", "as", ["a"], "a{sv}", {})
    assert reply.body == [[[0.0, 1.0]]]
    far.status = 404
    with pytest.raises(UnsupportedModel):
        await client.call(names.MANAGER, "Embed", "s", "fleet", "as", ["a"], "a{sv}", {})


async def test_a_cancel_and_a_client_that_leaves_close_the_connection(
    connect: Connect, far: ChatServer
) -> None:
    far.hangs_after(delta(content="word"))
    client = await connect()
    answering = await (await client.create_session("fleet")).generate("Hi")
    async for frame in answering:
        if frame["type"] == "text":
            await answering.cancel()
    assert frame == {"type": "end", "reason": "cancelled"}
    assert await asyncio.to_thread(far.asked[0].left.wait, 5)
    other = await connect()
    answering = await (await other.create_session("fleet")).generate("Hi")
    async with asyncio.timeout(10):
        while len(far.asked) < 2:
            await asyncio.sleep(0.01)
    await other.close()
    assert await asyncio.to_thread(far.asked[1].left.wait, 5)


async def test_the_service_answers_others_while_a_server_says_nothing(
    client: Client, far: ChatServer
) -> None:
    far.hangs_after()
    answering = await (await client.create_session("fleet")).generate("Hi")
    async with asyncio.timeout(10):
        while not far.asked:
            await asyncio.sleep(0.01)
        for _ in range(20):
            await listed(client)
    await answering.cancel()


async def test_a_kept_session_goes_on_with_it_and_another_can_take_over(client: Client, host: str) -> None:
    options = {"model": "fleet", "keep": True}
    path = (await client.call(names.MANAGER, "CreateSession", "a{sv}", options)).body[0]
    session = ClientSession(client.call, path)
    await frames_of(session)
    kept = values.plain((await client.call(names.MANAGER, "ListSessions")).body[0])[0]["id"]
    await session.close()
    path = (await client.call(names.MANAGER, "OpenSession", "s", kept, "a{sv}", {})).body[0]
    session = ClientSession(client.call, path)
    assert (await session.model(), await session.remote()) == ("fleet", host)
    assert len(await session.messages()) == 2
    await session.set_model("other")
    assert await session.model() == "other"


async def test_the_token_is_in_nothing_that_the_service_says(
    client: Client, far: ChatServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    session = await client.create_session("fleet")
    said = [await frames_of(session), await session.export(), await client.properties()]
    far.status = 401
    far.says(b'{"error": {"message": "%s is no key"}}' % TOKEN.encode())
    said += [await frames_of(session), await listed(client), await client.statistics()]
    assert far.asked[-1].headers["Authorization"].endswith(TOKEN)
    assert TOKEN not in str(said) + caplog.text


# --- commands -----------------------------------------------------------------------------------------


@pytest.fixture
def run(server: Server, settings: dict[str, str], bus_address: str, tmp_path: Path) -> Any:
    """A function that runs the program and returns its status, output and complaints."""
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    own = {"DBUS_SESSION_BUS_ADDRESS": bus_address, "HOME": str(tmp_path), "LC_ALL": "C.UTF-8"}

    async def run(*arguments: str) -> tuple[int, str, str]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "kylin_gguf", *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=kept | own | settings,
        )
        output, complaints = await process.communicate()
        return process.returncode or 0, output.decode(), complaints.decode()

    return run


async def test_the_commands_mark_it(run: Any, far: ChatServer, host: str) -> None:
    mark = f"not local: {host}"
    assert any("fleet" in line and mark in line for line in (await run("models"))[1].splitlines())
    _, shown, _ = await run("info", "fleet")
    assert mark in shown and far.url in shown and TOKEN not in shown
    assert json.loads((await run("info", "fleet", "--json"))[1])["local"] is False
    status, output, complaints = await run("plan", "fleet")
    assert (status, output) == (19, "") and host in complaints
    assert not far.asked
    status, output, complaints = await run("chat", "-m", "fleet", "Hi")
    assert (status, output) == (0, "Hello.\n") and host in complaints
    assert mark in (await run("ps"))[1]
    assert mark in (await run("status"))[1]
    assert mark in (await run("doctor"))[1]
    assert (await run("stop", "--all"))[0] == 0
    assert (await run("ps"))[1] == ""
    assert (await run("act", "-m", "fleet", "打开蓝牙"))[0] == 19
