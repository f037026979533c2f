"""Our side of a comparison: the real service and its worker, through D-Bus, on a bus of their own."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from bench import processes
from bench.case import Unfair
from bench.chat import Reply
from kylin_gguf import config
from kylin_gguf.bus import names
from kylin_gguf.bus.client import Client
from kylin_gguf.bus.client_session import Answer, ClientSession
from kylin_gguf.bus.connection import Connection
from kylin_gguf.records import InstalledModel, Message

START_S = 60.0
NEVER_S = 1 << 30
"""No model is unloaded for idleness while its turn has not come."""


@dataclass(frozen=True)
class Service:
    """A running service and one connection to it. An ``Engine`` to the cases."""

    client: Client
    model: InstalledModel
    daemon: int
    """Process id of the service."""
    address: str
    worker: int = 0
    """Process id of the model's worker, once the model is loaded."""
    threads: int = 0
    load_s: float = 0.0
    """Seconds of loading as the worker counts them."""

    async def loaded(self) -> Self:
        """Load the model; return the same service with what is known of its worker."""
        await self.client.load(str(self.model.path))
        found = await self.status()
        return type(self)(
            self.client,
            self.model,
            self.daemon,
            self.address,
            worker=found["pid"],
            threads=found["placement"]["threads"],
            load_s=found["load_s"],
        )

    async def status(self) -> dict[str, Any]:
        """Return the entry of LoadedModels for the model."""
        loaded: list[dict[str, Any]] = (await self.client.properties())["LoadedModels"]
        return next(item for item in loaded if item["path"] == str(self.model.path))

    def processes(self) -> Iterable[int]:
        """The daemon and the worker."""
        return [pid for pid in (self.daemon, self.worker) if pid]

    @contextlib.asynccontextmanager
    async def another_client(self) -> AsyncIterator[Service]:
        """Return the same service, seen from a connection of its own."""
        client = await _connect(self.address)
        try:
            yield Service(
                client, self.model, self.daemon, self.address, self.worker, self.threads, self.load_s
            )
        finally:
            await client.close()

    @contextlib.asynccontextmanager
    async def session(self, history: Sequence[Message] = ()) -> AsyncIterator[ClientSession]:
        """Open a conversation that begins with ``history``."""
        session = await self.client.create_session(str(self.model.path))
        try:
            if history:
                await session.set_context(history)
            yield session
        finally:
            await session.close()

    async def chat(
        self,
        messages: Sequence[Message],
        max_tokens: int,
        begun: asyncio.Event | None = None,
        **options: object,
    ) -> Reply:
        """Answer, as ``Engine.chat``; ``options`` are sampling options."""
        async with self.session(messages[:-1]) as session:
            asked = time.perf_counter()
            prompt = messages[-1].content
            answer = await session.generate(prompt, temperature=0.0, max_tokens=max_tokens, **options)
            return await read(answer, asked, begun)


async def read(answer: Answer, asked: float, begun: asyncio.Event | None = None) -> Reply:
    """Read an answer to its end.

    Raises:
        Unfair: it has no text, or ended with an error.
    """
    arrivals, text, usage, reason = [], [], {}, ""
    async for frame in answer:
        if frame["type"] == "text":
            arrivals.append(time.perf_counter())
            text.append(frame["text"])
            if begun:
                begun.set()
        elif frame["type"] == "usage":
            usage = frame
        elif frame["type"] == "error":
            raise Unfair(f"{frame['code']}: {frame['message']}")
        elif frame["type"] == "end":
            reason = frame["reason"]
    if not (arrivals and usage):
        raise Unfair(f"an answer without text or usage ({reason})")
    return _reply(asked, arrivals, "".join(text), reason, usage)


def _reply(asked: float, arrivals: list[float], text: str, reason: str, usage: Mapping[str, Any]) -> Reply:
    return Reply(
        asked=asked,
        arrivals=tuple(arrivals),
        text=text,
        reason=reason,
        prompt_tokens=usage["prompt_tokens"],
        cached_tokens=usage["cached_tokens"],
        completion_tokens=usage["completion_tokens"],
        prefill_tokens_per_s=usage["prefill_tokens_per_s"],
        decode_tokens_per_s=usage["decode_tokens_per_s"],
        longest_gap_s=usage["longest_gap_s"],
        energy_j=usage.get("energy_j"),
    )


@contextlib.asynccontextmanager
async def running(model: InstalledModel, **settings: object) -> AsyncIterator[Service]:
    """Start a bus and the service on it; nothing is loaded yet. Ends both, and the worker with them.

    ``settings`` are names of ``records.Settings``; ``cache_dir``, where prefixes are kept, is an empty one
    unless given. Guesses are off unless asked for: a small model's greedy answers repeat themselves, and how
    fast they then come says little about a decode.

    Raises:
        ConfigError: this version has no such setting, or not this value.
    """
    with tempfile.TemporaryDirectory(prefix="kylin-gguf-bench-") as name:
        scratch = Path(name)
        flags = {"cache_dir": scratch / "cache", "idle_exit_s": 0, "idle_unload_s": NEVER_S}
        flags |= {"speculation": "off", **settings}
        flags |= {"runtime_dir": scratch, "state_dir": scratch / "state"}
        config.load(flags)  # an unknown variable of the environment would be passed over in silence
        address, log = f"unix:path={scratch / 'bus'}", scratch / "log"
        environment = {config.ENV_PREFIX + key.upper(): str(value) for key, value in flags.items()}
        environment["DBUS_SESSION_BUS_ADDRESS"] = address
        bus = [dbus_daemon(), "--session", "--nofork", "--nopidfile", f"--address={address}"]
        serve = [sys.executable, "-P", "-m", "kylin_gguf", "serve"]
        async with processes.child(bus, log=log, environment=environment) as bus_process:
            await until_there(bus_process, scratch / "bus", log)
            async with processes.child(serve, log=log, environment=environment) as daemon:
                await _until_served(daemon, address, log)
                client = await _connect(address)
                try:
                    yield Service(client, model, daemon.pid, address)
                finally:
                    await client.close()


def dbus_daemon() -> str:
    """Return the path of the bus daemon; raises SystemExit where there is none."""
    found = shutil.which("dbus-daemon")
    if found is None:
        raise SystemExit("dbus-daemon is not installed")
    return found


async def until_there(process: asyncio.subprocess.Process, socket: Path, log: Path) -> None:
    """Return when the bus ``process`` listens at ``socket``; raises SystemExit when it does not."""
    deadline = time.monotonic() + START_S
    while not socket.exists():
        if process.returncode is not None or time.monotonic() > deadline:
            raise SystemExit(f"dbus-daemon did not start: {processes.tail(log)}")
        await asyncio.sleep(0.05)


async def _until_served(daemon: asyncio.subprocess.Process, address: str, log: Path) -> None:
    connection = await Connection.connect(address)
    try:
        deadline = time.monotonic() + START_S
        while not await connection.has_owner(names.BUS_NAME):
            if daemon.returncode is not None or time.monotonic() > deadline:
                raise SystemExit(f"the service did not start: {processes.tail(log)}")
            await asyncio.sleep(0.05)
    finally:
        await connection.close()


async def _connect(address: str) -> Client:
    connection = await Connection.connect(address)
    return Client(connection, (await connection.daemon("GetNameOwner", "s", [names.BUS_NAME]))[0])
