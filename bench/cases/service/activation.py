"""How soon the service answers when the bus starts it, and what it holds while it has nothing to do."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

from bench import processes, service
from bench.case import OURS, Bar, Case, Contender, Figure, Prepared, Sample, Unfair, Wanted
from kylin_gguf import config
from kylin_gguf.bus import names
from kylin_gguf.bus.client import Client
from kylin_gguf.bus.connection import Connection
from kylin_gguf.engine.memory import memory_of
from kylin_gguf.records import ADAPTER

_SETTLE_S = 0.3
_ADAPTER_S = 30.0
_BUS = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:path={directory}/bus</listen>
  <servicedir>{directory}</servicedir>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/>
  </policy>
</busconfig>
"""
_ACTIVATION = """[D-BUS Service]
Name={name}
Exec={python} -P -m kylin_gguf serve
"""


@contextlib.asynccontextmanager
async def _bus(wanted: Wanted) -> AsyncIterator[Connection]:
    """Run a bus that starts the service when it is called, and connect to it."""
    with tempfile.TemporaryDirectory(prefix="kylin-gguf-bench-") as name:
        scratch = Path(name)
        (scratch / "bus.conf").write_text(_BUS.format(directory=scratch), encoding="utf-8")
        activation = _ACTIVATION.format(name=names.BUS_NAME, python=sys.executable)
        (scratch / "service.service").write_text(activation, encoding="utf-8")
        flags = {name: scratch / name for name in ("cache_dir", "state_dir", "runtime_dir")}
        flags["default_model"] = wanted.model.path
        environment = {config.ENV_PREFIX + key.upper(): str(value) for key, value in flags.items()}
        environment["DBUS_SESSION_BUS_ADDRESS"] = f"unix:path={scratch}/bus"
        command = [service.dbus_daemon(), f"--config-file={scratch}/bus.conf", "--nofork", "--nopidfile"]
        log = scratch / "log"
        async with processes.child(command, log=log, environment=environment) as daemon:
            await service.until_there(daemon, scratch / "bus", log)
            connection = await Connection.connect(f"unix:path={scratch}/bus")
            try:
                yield connection
            finally:
                await connection.close()


async def _process(connection: Connection, name: str) -> int:
    (pid,) = await connection.daemon("GetConnectionUnixProcessID", "s", [name])
    return int(pid)


async def _commands(connection: Connection, client: Client) -> bool:
    """Return whether the adapter has told what else this desktop can do."""
    if not await connection.has_owner(ADAPTER.name):
        return False
    reply = await client.call(names.ACTUATOR, "ListCatalogues")
    return bool(reply.body[0])


@contextlib.asynccontextmanager
async def _prepare(wanted: Wanted) -> AsyncIterator[Prepared]:
    async def sample(_: int) -> Sample:
        async with _bus(wanted) as connection:
            client = Client(connection, "")
            asked = time.perf_counter()
            await client.call(names.PROPERTIES, "Get", "s", names.MANAGER, "s", "Version")
            replied = time.perf_counter()
            pid = await _process(connection, names.BUS_NAME)
            await asyncio.sleep(_SETTLE_S)
            if await connection.has_owner(ADAPTER.name):
                raise Unfair("the adapter was there before the memory was read")
            idle = memory_of(pid)
            deadline = time.monotonic() + _ADAPTER_S
            while not await _commands(connection, client):
                if time.monotonic() > deadline:
                    raise Unfair("the adapter has registered nothing")
                await asyncio.sleep(0.2)
            with_commands = memory_of(pid)
            figures = {
                "first_reply": (replied - asked) * 1000,
                "resident": idle.resident / 1e6,
                "with_commands": with_commands.resident / 1e6,
            }
            os.kill(pid, 15)
            return Sample(figures, {"private_mb": round(idle.private / 1e6, 2)})

    yield Prepared({OURS: Contender(sample)}, {"bus": "dbus-daemon, no systemd"})


CASE = Case(
    name="service/activation",
    measures="a call that starts the service, and its memory while nobody uses it",
    figures=(
        Figure("first_reply", "ms", "lower", "from the call that starts the service to its reply"),
        Figure("resident", "MB", "lower", "resident memory of the service shortly after, no model loaded"),
        Figure(
            "with_commands", "MB", "lower", "the same once the adapter has registered this desktop's commands"
        ),
    ),
    bars=(Bar("first_reply", 400.0), Bar("resident", 40.0), Bar("with_commands", 40.0)),
    prepare=_prepare,
)
