"""The real server around a service that needs no model, and clients of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import pytest

from kylin_gguf.bus import names
from kylin_gguf.bus.client import Client
from kylin_gguf.bus.connection import Connection
from kylin_gguf.bus.server import Server
from tests.bus.fake_service import FakeService


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
