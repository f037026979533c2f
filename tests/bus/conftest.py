"""A fresh bus for each test module, and the real server around a service that needs no model."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from kylin_gguf.bus import names
from kylin_gguf.bus.client import Client
from kylin_gguf.bus.connection import Connection
from kylin_gguf.bus.server import Server
from tests.bus.fake_service import FakeService

CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:path={directory}/bus</listen>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
</busconfig>
"""


@pytest.fixture(scope="module")
def bus_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A dbus-daemon of this module's own, with no services to activate."""
    directory = tmp_path_factory.mktemp("bus")
    (directory / "bus.conf").write_text(CONFIG.format(directory=directory), encoding="utf-8")
    log = directory / "daemon.log"
    with log.open("wb") as output:
        daemon = subprocess.Popen(
            ["dbus-daemon", f"--config-file={directory / 'bus.conf'}", "--nofork", "--print-address=1"],
            stdout=subprocess.PIPE,
            stderr=output,
            text=True,
        )
    assert daemon.stdout is not None
    address = daemon.stdout.readline().strip()
    assert address, log.read_text(encoding="utf-8")
    yield address
    daemon.terminate()
    daemon.wait()
    daemon.stdout.close()
    print(log.read_text(encoding="utf-8"))  # pytest shows it when a test of the module failed


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
async def server(bus_address: str, service: FakeService) -> AsyncIterator[Server]:
    running = await Server.start(bus_address, cast("Any", service))
    yield running
    await running.close()


Connect = Callable[[], Awaitable[Client]]


@pytest.fixture
async def connect(bus_address: str, server: Server) -> AsyncIterator[Connect]:
    """A function that makes another client of the server."""
    made: list[Client] = []

    async def make() -> Client:
        connection = await Connection.connect(bus_address)
        owner = (await connection.daemon("GetNameOwner", "s", [names.BUS_NAME]))[0]
        made.append(Client(connection, owner))
        return made[-1]

    yield make
    for client in made:
        await client.close()


@pytest.fixture
async def client(connect: Connect) -> Client:
    return await connect()


Foreign = Callable[..., Awaitable[tuple[int, str, str]]]


@pytest.fixture
def foreign(bus_address: str) -> Foreign:
    """A function that runs someone else's D-Bus tool and returns its status, output and complaints."""

    async def run(*command: str | Path) -> tuple[int, str, str]:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={"DBUS_SESSION_BUS_ADDRESS": bus_address, "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
        )
        output, complaints = await process.communicate()
        return process.returncode or 0, output.decode(), complaints.decode()

    return run
