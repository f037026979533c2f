"""Who is killed or leaves, at which phase of a request: every stream ends with one ``end`` frame, or with its
socket where nobody is left to write, and nothing stays behind."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from kylin_gguf.bus.client import Client
from kylin_gguf.bus.client_session import Answer, ClientSession
from kylin_gguf.errors import ServiceUnavailable
from kylin_gguf.records import InstalledModel
from tests.e2e import daemon
from tests.e2e.daemon import Daemon

pytestmark = pytest.mark.native

LONG = "The sea is wide and the sky is high, and so on it goes. " * 90
PHASES = ("loading", "prompt", "text", "ended")


@pytest.fixture
async def service(tmp_path: Path, model: InstalledModel) -> AsyncIterator[Daemon]:
    async with daemon.running(tmp_path, model, context_length=2048) as running:
        yield running


async def begin(client: Client, phase: str) -> tuple[ClientSession, Answer, list[dict[str, Any]], Any]:
    """Bring a request to a phase; return it with the frames that were read, and the rest to read."""
    if phase != "loading":
        await client.load()
    session = await client.create_session()
    prompt = LONG if phase == "prompt" else "Tell me everything about the sea."
    tokens = {"ended": 4, "prompt": 8}.get(phase, 900)
    answer = await session.generate(prompt, max_tokens=tokens, temperature=1.3, seed=5)
    frames, rest = [], aiter(answer)
    if phase == "prompt":
        await asyncio.sleep(0.15)
    elif phase == "text":
        frames.append(await anext(rest))
    elif phase == "ended":
        frames += [frame async for frame in rest]
    return session, answer, frames, rest


async def worker_of(client: Client) -> int:
    (loaded,) = (await client.properties())["LoadedModels"]
    return int(loaded["pid"])


async def kill_worker(service: Daemon, client: Client, answer: Answer) -> None:
    os.kill(await worker_of(client), signal.SIGKILL)


async def kill_service(service: Daemon, client: Client, answer: Answer) -> None:
    service.process.kill()


async def end_service(service: Daemon, client: Client, answer: Answer) -> None:
    service.process.terminate()


async def kill_bus(service: Daemon, client: Client, answer: Answer) -> None:
    service.bus.kill()


async def leave(service: Daemon, client: Client, answer: Answer) -> None:
    await client.close()


async def cancel(service: Daemon, client: Client, answer: Answer) -> None:
    await answer.cancel()


Event = Callable[[Daemon, Client, Answer], Awaitable[None]]
EXPECTED: dict[Event, set[str]] = {
    kill_worker: {"error"},
    kill_service: {"broken"},
    end_service: {"cancelled"},
    kill_bus: {"cancelled"},
    leave: {"cancelled"},
    cancel: {"cancelled"},
}
"""How a running answer ends; "broken" is the end of the socket without a frame."""
ASKED_AGAIN = {"stop", "length"}
"""A worker that dies before the first word costs its client nothing but time."""
CASES = [
    (event, phase) for event in EXPECTED for phase in PHASES if (event, phase) != (kill_worker, "loading")
]
"""A worker that loads has no entry in LoadedModels; tests/e2e/test_worker_life.py kills that one."""


async def read(rest: Any) -> tuple[list[dict[str, Any]], str]:
    """Read a stream to its end; return the frames, and how it ended."""
    frames = []
    try:
        async with asyncio.timeout(60):
            async for frame in rest:
                frames.append(frame)
    except ServiceUnavailable:
        return frames, "broken"
    return frames, frames[-1]["reason"] if frames else ""


@pytest.mark.parametrize(("event", "phase"), CASES, ids=lambda value: getattr(value, "__name__", value))
async def test_every_stream_ends_once(service: Daemon, event: Event, phase: str) -> None:
    async with service.client() as observer:
        await observer.list_models()
        before = service.descriptors()
        async with service.client() as client:
            _, answer, frames, rest = await begin(client, phase)
            worker = await worker_of(client) if phase != "loading" else 0
            await event(service, client, answer)
            more, end = await read(rest)
        ends = [frame for frame in frames + more if frame["type"] == "end"]
        if phase == "ended":
            assert len(ends) == 1 and more == []
        else:
            asked_again = event is kill_worker and phase == "prompt"
            assert end in (ASKED_AGAIN if asked_again else EXPECTED[event])
            assert len(ends) == (0 if end == "broken" else 1)
        if event in (kill_service, end_service, kill_bus):
            await gone_with_its_worker(service, worker)
        else:
            await usable(service, observer, before)


async def gone_with_its_worker(service: Daemon, worker: int) -> None:
    await daemon.until(lambda: service.process.poll() is not None)
    await daemon.until(lambda: not worker or not Path(f"/proc/{worker}/exe").exists())


async def usable(service: Daemon, observer: Client, before: int) -> None:
    """The next request works, and once the model is unloaded nothing is open that was not at the start."""
    session = await observer.create_session()
    assert await session.complete("Say hello.", max_tokens=4)
    await session.close()
    await observer.unload("")
    await daemon.until(lambda: service.descriptors() <= before)
    assert (await observer.properties()).get("LoadedModels", []) == []
