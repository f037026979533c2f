"""The real service around an engine that needs no model: it answers with what it was asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

from kylin_gguf import catalogue, config, frames
from kylin_gguf.bus import names
from kylin_gguf.bus.client import Client
from kylin_gguf.bus.connection import Connection
from kylin_gguf.bus.server import Server
from kylin_gguf.engine.generation import Generation
from kylin_gguf.records import Message, SamplingOptions, Settings
from kylin_gguf.service import Service
from kylin_gguf.store import Store
from tests.tiny_model import write_model


class EchoEngine:
    """Answers with its model's name, the number of messages that it was given, and the last one's words.

    The word FOREVER goes on until the answer is cancelled. ``running`` are the answers in the making.
    """

    running: ClassVar[set[asyncio.Task[None]]] = set()

    def __init__(self, model: str) -> None:
        self._model = model

    def generate(
        self, generation: Generation, messages: Sequence[Message], _: SamplingOptions, **__: Any
    ) -> None:
        stop = asyncio.Event()
        generation.handed_over(stop.set)
        words = [f"{self._model}:{len(messages)}", *messages[-1].content.split()]
        task = asyncio.get_running_loop().create_task(self._run(generation, words, stop))
        self.running.add(task)
        task.add_done_callback(self.running.discard)

    async def _run(self, generation: Generation, words: list[str], stop: asyncio.Event) -> None:
        pieces = [words[0], *(f" {word}" for word in words[1:])]
        with generation.watched():
            for piece in pieces:
                generation.send(frames.text(piece))
                if piece.endswith("FOREVER"):
                    await stop.wait()
        generation.end("cancelled" if stop.is_set() else "stop", text="".join(pieces))


def settings(directory: Path) -> Settings:
    """Return settings below ``directory`` with two models, first and second."""
    places = {name: str(directory / name) for name in ("models_dir", "cache_dir", "state_dir", "runtime_dir")}
    (directory / "models_dir").mkdir()
    for name in ("first", "second"):
        write_model(directory / "models_dir" / f"{name}.gguf", name=name)
    return config.load(places | {"default_model": "first"})


@asynccontextmanager
async def serving(found: Settings, bus_address: str) -> AsyncIterator[Service]:
    """Serve on the bus for as long as the context."""
    service = Service(found, Store(found, catalogue.load(found.catalogue)))

    async def acquire(model: Any, *_: object) -> Any:
        return EchoEngine(model.name)

    service._pool.acquire = acquire  # type: ignore[method-assign]
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
