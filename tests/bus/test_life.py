"""How the service comes and goes: names, idle exit, a lost bus, start on demand."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

from kylin_gguf import config
from kylin_gguf.bus import names, private, server
from kylin_gguf.bus.client import Client
from kylin_gguf.bus.connection import Connection
from kylin_gguf.bus.server import Server
from kylin_gguf.errors import ServiceUnavailable
from kylin_gguf.records import Settings
from tests.bus.conftest import Connect
from tests.bus.fake_service import FakeService

# --- The server ---------------------------------------------------------------------------------------


async def test_a_second_server_is_refused(server: Server, bus_address: str) -> None:
    with pytest.raises(ServiceUnavailable, match="already owns"):
        await Server.start(bus_address, cast("Any", FakeService()))


async def test_idle_server_ends_and_takes_its_workers_along(bus_address: str, service: FakeService) -> None:
    await asyncio.wait_for(server.run(cast("Any", service), bus_address, 0.05), 20)
    assert service.closed
    connection = await Connection.connect(bus_address)
    assert not await connection.has_owner(names.BUS_NAME)
    await connection.close()


async def test_sessions_and_work_keep_the_server(
    server: Server, service: FakeService, client: Client, connect: Connect
) -> None:
    other = await connect()
    session = await client.create_session()
    idle = asyncio.ensure_future(server.wait_idle(0.01))
    await other.list_models()
    await asyncio.sleep(0.1)
    assert not idle.done(), "a session is open"
    service.is_busy = True
    await session.close()
    await asyncio.sleep(0.1)
    assert not idle.done(), "work goes on"
    service.is_busy = False
    await asyncio.wait_for(idle, 20)


async def test_the_adapter_starts_when_nobody_waits_for_an_answer(
    bus_address: str, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kylin_gguf.bus.server.REST_DELAY_S", 0.02)
    started = asyncio.Event()

    async def start(_: Connection) -> None:
        started.set()

    service.is_busy = True
    running = await Server.start(bus_address, cast("Any", service), start)
    starting = asyncio.ensure_future(running.start_adapter())
    await asyncio.sleep(0.1)
    assert not started.is_set()
    service.is_busy = False
    await asyncio.wait_for(starting, 20)
    assert started.is_set()
    await running.close()


async def test_signal_ends_the_server(bus_address: str, service: FakeService) -> None:
    running = asyncio.ensure_future(server.run(cast("Any", service), bus_address, 0))
    connection = await Connection.connect(bus_address)
    while not await connection.has_owner(names.BUS_NAME):
        await asyncio.sleep(0.01)
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(running, 20)
    assert service.closed
    await connection.close()


async def test_lost_bus_ends_the_server_and_fails_callers(tmp_path: Path, service: FakeService) -> None:
    address = f"unix:path={tmp_path / 'bus'}"
    daemon = subprocess.Popen(
        ["dbus-daemon", "--session", "--nofork", "--print-address=1", f"--address={address}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert daemon.stdout is not None
    daemon.stdout.readline()
    running = asyncio.ensure_future(server.run(cast("Any", service), address, 0))
    connection = await Connection.connect(address)
    while not await connection.has_owner(names.BUS_NAME):
        await asyncio.sleep(0.01)
    client = Client(connection, (await connection.daemon("GetNameOwner", "s", [names.BUS_NAME]))[0])
    loading = asyncio.ensure_future(client.load("slow"))
    while not service.jobs:
        await asyncio.sleep(0.01)
    daemon.kill()
    daemon.wait()
    daemon.stdout.close()
    for waiting in (running, loading):
        with pytest.raises(ServiceUnavailable, match="connection to the bus is lost"):
            await asyncio.wait_for(waiting, 20)
    assert service.closed
    with pytest.raises(ServiceUnavailable):
        await client.list_models()


async def test_a_stalled_daemon_loses_nothing(bus_address: str) -> None:
    sender, receiver = await Connection.connect(bus_address), await Connection.connect(bus_address)
    (pid,) = await sender.daemon("GetConnectionUnixProcessID", "s", [names.DAEMON])
    heard: list[int] = []
    receiver.on_signal = lambda message: heard.append(message.body[0])
    from dbus_next.message import Message  # noqa: PLC0415 — the only use of raw messages here

    os.kill(pid, signal.SIGSTOP)
    try:
        for number in range(2000):
            message = Message.new_signal("/a", "a.b", "C", "us", [number, "x" * 1000])
            message.destination = receiver.unique_name
            sender.send(message)
        await asyncio.sleep(0.2)
    finally:
        os.kill(pid, signal.SIGCONT)
    while len(heard) < 2000:
        assert not sender.lost.done()
        await asyncio.sleep(0.01)
    assert heard == list(range(2000))
    await sender.close()
    await receiver.close()


# --- Start on demand ----------------------------------------------------------------------------------


@pytest.fixture
async def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Settings]:
    """Settings of a user without a session bus; whatever was started is stopped afterwards."""
    for variable in ("DBUS_SESSION_BUS_ADDRESS", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(variable, raising=False)
    for variable, folder in (("HOME", ""), ("XDG_STATE_HOME", "state"), ("XDG_DATA_HOME", "data")):
        monkeypatch.setenv(variable, str(tmp_path / folder))
    settings = config.load()
    yield settings
    address = await private.running_bus(settings)
    if address:
        connection = await Connection.connect(address)
        (pid,) = await connection.daemon("GetConnectionUnixProcessID", "s", [names.DAEMON])
        os.kill(pid, signal.SIGTERM)
        await connection.lost
        await connection.close()


async def test_private_bus_is_started_once_and_for_this_user_alone(alone: Settings) -> None:
    assert await private.running_bus(alone) == ""
    with pytest.raises(ServiceUnavailable, match="no session bus"):
        await Client.connect(alone, start=False)
    addresses = await asyncio.gather(*(private.bus_address(alone) for _ in range(3)))
    assert addresses == [f"unix:path={alone.runtime_dir}/bus"] * 3
    assert alone.runtime_dir.stat().st_mode & 0o777 == 0o700


async def test_dead_bus_in_the_environment_is_passed_over(
    alone: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", f"unix:path={tmp_path / 'gone'}")
    assert await private.bus_address(alone) == private.private_address(alone)


async def test_a_server_that_hangs_up_during_authentication_is_no_bus(tmp_path: Path) -> None:
    listener = await asyncio.start_unix_server(lambda _, writer: writer.close(), tmp_path / "liar")
    with pytest.raises(ServiceUnavailable, match="no bus at"):
        await asyncio.wait_for(Connection.connect(f"unix:path={tmp_path / 'liar'}"), 20)
    listener.close()


async def test_real_service_starts_on_demand_and_leaves_when_idle(
    alone: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KYLIN_GGUF_IDLE_EXIT_S", "0.3")
    connections = [Client.connect(alone) for _ in range(2)]
    first, second = await asyncio.gather(*connections)  # two at once start one service
    assert "smollm2-135m-instruct" in [model["name"] for model in await first.list_models()]
    assert await second.properties() == await first.properties()
    gone = asyncio.Event()
    await second._connection.watch(names.BUS_NAME, lambda owner: None if owner else gone.set())
    await first.close()
    await asyncio.wait_for(gone.wait(), 60)
    await second.close()


async def test_service_that_cannot_start_says_why(alone: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    catalogue = alone.state_dir.parent / "broken.yaml"
    catalogue.parent.mkdir(exist_ok=True)
    catalogue.write_text("version: 99\n", encoding="utf-8")
    monkeypatch.setenv("KYLIN_GGUF_CATALOGUE", str(catalogue))
    with pytest.raises(ServiceUnavailable, match=r"broken\.yaml"):
        await Client.connect(alone)
