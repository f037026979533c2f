"""The service as a process of its own, on a bus of its own, which a test may kill."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from kylin_gguf.bus import names
from kylin_gguf.bus.client import Client
from kylin_gguf.bus.connection import Connection
from kylin_gguf.records import InstalledModel
from tests.conftest import start_bus

READY_S = 60


@dataclass
class Daemon:
    """A running service and its bus."""

    bus: subprocess.Popen[str]
    process: subprocess.Popen[bytes]
    address: str
    log: Path

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        """Connect a client for as long as the context."""
        connection = await Connection.connect(self.address)
        owner = (await connection.daemon("GetNameOwner", "s", [names.BUS_NAME]))[0]
        async with Client(connection, owner) as client:
            yield client

    def descriptors(self) -> int:
        """Return how many descriptors the service has open."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def resident(self, pid: int = 0) -> int:
        """Return the memory of the service, or another process, in bytes."""
        pages = int(Path(f"/proc/{pid or self.process.pid}/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


async def until(condition: Callable[[], object], seconds: float = 30) -> None:
    """Wait for what another process brings about."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


@asynccontextmanager
async def running(directory: Path, model: InstalledModel, **settings: object) -> AsyncIterator[Daemon]:
    """Run the service with ``model`` as its default, and ``settings`` by their names."""
    bus, address = start_bus(directory)
    places = {name: directory / name for name in ("runtime_dir", "state_dir", "cache_dir")}
    given = {"default_model": model.path, "idle_exit_s": 0, **places, **settings}
    environment = os.environ | {f"KYLIN_GGUF_{name.upper()}": str(value) for name, value in given.items()}
    log = directory / "service.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "kylin_gguf", "serve"],
            env=environment | {"DBUS_SESSION_BUS_ADDRESS": address},
            stderr=output,
        )
    try:
        connection = await Connection.connect(address)
        async with asyncio.timeout(READY_S):
            while not await connection.has_owner(names.BUS_NAME):
                await asyncio.sleep(0.02)
        await connection.close()
        yield Daemon(bus, process, address, log)
    finally:
        for child in (process, bus):
            child.terminate()
            with suppress(subprocess.TimeoutExpired):
                child.wait(READY_S)
            child.kill()
            child.wait()
        print(log.read_text(encoding="utf-8"))  # pytest shows it when a test failed
