"""The real service around an engine that needs no model: it answers with what it was asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from kylin_gguf import config, frames
from kylin_gguf.bus import names
from kylin_gguf.bus.client import Client
from kylin_gguf.bus.connection import Connection
from kylin_gguf.bus.server import Server
from kylin_gguf.catalogue import Catalogue
from kylin_gguf.engine.generation import Generation
from kylin_gguf.engine.memory import ProcessMemory
from kylin_gguf.engine.process import Listeners
from kylin_gguf.loading import Loader
from kylin_gguf.records import (
    Activity,
    InstalledModel,
    Message,
    Placement,
    SamplingOptions,
    Settings,
    Speculation,
    StatesRequest,
)
from kylin_gguf.service import Service
from kylin_gguf.store import Store
from tests.tiny_model import write_model


@dataclass
class EchoEngine:
    """Answers with its model's name, the number of messages that it was given, and the last one's words.

    The word FOREVER goes on until the answer is cancelled. Made in place of ``EngineProcess``.
    """

    model: InstalledModel
    placement: Placement
    listeners: Listeners
    load_s: float = 0.01
    pid: int = 42
    speculation: Speculation = field(default_factory=Speculation)
    buffers: dict[str, dict[str, int]] = field(default_factory=dict)
    failure: None = None
    counted: Activity = field(default_factory=Activity)
    thrift: tuple[bool, bool] = (False, False)
    """What it was told of the machine's power."""

    running: ClassVar[set[asyncio.Task[None]]] = set()
    """The answers in the making, of all engines."""

    @property
    def busy(self) -> bool:
        return bool(self.running)

    def news(self) -> str:
        return ""

    def heed_power(self, save: bool, on_battery: bool) -> None:
        self.thrift = save, on_battery

    async def activity(self) -> Activity:
        return replace(self.counted, running=len(self.running))

    def memory(self) -> ProcessMemory:
        return ProcessMemory(3 << 20, 2 << 20, 1 << 20)

    async def stop(self) -> None:
        self.listeners.ended(self)  # type: ignore[arg-type]

    async def hidden_states(self, request: StatesRequest) -> NDArray[np.float32]:
        return np.ones((len(request.texts), 4), np.float32)

    def generate(
        self, generation: Generation, messages: Sequence[Message], _: SamplingOptions, **__: Any
    ) -> None:
        stop = asyncio.Event()
        generation.handed_over(stop.set)
        words = [f"{self.model.name}:{len(messages)}", *messages[-1].content.split()]
        task = asyncio.get_running_loop().create_task(_echo(generation, words, stop))
        self.running.add(task)
        task.add_done_callback(self.running.discard)


async def _echo(generation: Generation, words: Sequence[str], stop: asyncio.Event) -> None:
    pieces = [words[0], *(f" {word}" for word in words[1:])]
    with generation.watched():
        for piece in pieces:
            generation.send(frames.text(piece))
            if piece.endswith("FOREVER"):
                await stop.wait()
    generation.end("cancelled" if stop.is_set() else "stop", text="".join(pieces))


PLACEMENT = Placement(0, 512, 1)


async def _plan(*_: object) -> Placement:
    return PLACEMENT


async def _start(_: Loader, model: InstalledModel, listeners: Listeners) -> EchoEngine:
    return EchoEngine(model, PLACEMENT, listeners)


def settings(directory: Path) -> Settings:
    """Return settings below ``directory`` with two models, first and second, and none to fetch."""
    places = {name: str(directory / name) for name in ("models_dir", "cache_dir", "state_dir", "runtime_dir")}
    found = config.load(places | {"default_model": "first"})
    found.models_dir.mkdir()
    write_models(found)
    return found


def write_models(found: Settings) -> None:
    """Put the models in place."""
    for name in ("first", "second"):
        write_model(found.models_dir / f"{name}.gguf", name=name)


@asynccontextmanager
async def serving(found: Settings, bus_address: str) -> AsyncIterator[Service]:
    """Serve on the bus for as long as the context; there is no model to fetch."""
    service = Service(found, Store(found, Catalogue(found.catalogue, (), ())))
    with patch.multiple(Loader, plan=_plan, start=_start):
        server = await Server.start(bus_address, service)
        try:
            yield service
        finally:
            await server.close()


@asynccontextmanager
async def connected(bus_address: str) -> AsyncIterator[Client]:
    """Connect a client for as long as the context."""
    connection = await Connection.connect(bus_address)
    owner = (await connection.daemon("GetNameOwner", "s", [names.BUS_NAME]))[0]
    async with Client(connection, owner) as client:
        yield client
