"""A service with the shape of ``kylin_gguf.service.Service`` that answers by echoing, without a model."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kylin_gguf import frames
from kylin_gguf.conversations import Conversation
from kylin_gguf.errors import KylinError, UnknownModel, UnknownOption, UnsupportedModel
from kylin_gguf.frames import EndReason
from kylin_gguf.jobs import Job, run_async
from kylin_gguf.records import (
    Activity,
    Entry,
    InstalledModel,
    LoadedModel,
    Message,
    Placement,
    Power,
    Progress,
    ProgressCallback,
    SamplingOptions,
    Speculation,
    Usage,
)

USAGE = Usage(3, 0, 2, 0.01, 0.02, 300.0, 100.0, 0.0, 0.01, 0.01, 0.01)


@dataclass
class FakeOutcome:
    reason: EndReason
    text: str = ""
    usage: Usage | None = None
    error: KylinError | None = None


class FakeGeneration:
    """Echoes its words one by one; the word FOREVER repeats until it is cancelled."""

    def __init__(self, prompt: str) -> None:
        self.stream, self._end = socket.socketpair()
        self._end.setblocking(False)
        self.finished: asyncio.Future[FakeOutcome] = asyncio.get_running_loop().create_future()
        self.cancelled = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._run(prompt.split()))

    def cancel(self) -> None:
        self.cancelled.set()

    async def _send(self, frame: frames.Frame) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            await asyncio.get_running_loop().sock_sendall(self._end, frames.encode(frame))

    async def _run(self, words: list[str]) -> None:
        text, reason = "", frames.EndReason.__args__[0]
        for word in words:
            await self._send(frames.text(word))
            text += word
            if word == "FOREVER":
                await self.cancelled.wait()
                reason = "cancelled"
        await self._send(frames.usage(USAGE))
        await self._send(frames.end(reason))
        self._end.close()
        self.finished.set_result(FakeOutcome(reason, text, USAGE))


class FakeSession:
    def __init__(self, model: str) -> None:
        self.switch_model(model)
        self.closed = False
        self.kept_as = ""
        self.generations: list[FakeGeneration] = []
        self.conversation = Conversation()

    def switch_model(self, model: str) -> None:
        self.model = InstalledModel(model, Path(f"/models/{model}.gguf"), 1, writable=False)

    async def generate(self, options: Mapping[str, Any]) -> FakeGeneration:
        rest = dict(options)
        prompt = rest.pop("prompt", "")
        SamplingOptions.from_options(rest)
        self.conversation.add(Message("user", prompt))
        self.generations.append(FakeGeneration(prompt))
        return self.generations[-1]

    def replace(self, conversation: Conversation) -> None:
        self.conversation = conversation

    def set_context(self, entries: Sequence[Entry]) -> None:
        self.replace(self.conversation.replaced(entries))

    def select_context(self, ids: Collection[int]) -> None:
        self.conversation.select(ids)

    def clear(self) -> None:
        self.replace(self.conversation.cleared())

    async def close(self) -> None:
        self.closed = True


class FakeService:
    """``release`` lets jobs of the model ``slow`` go on; ``sessions`` are those ever made."""

    def __init__(self) -> None:
        self.on_change: Callable[[str], None] = lambda _: None
        self.release = asyncio.Event()
        self.sessions: list[FakeSession] = []
        self.jobs: list[Job[Any]] = []
        self.embedded: list[int] = []
        """The number of texts of each call for vectors; 0 for one that was cancelled."""
        self.unloaded: list[str] = []
        self.is_busy = False
        self.closed = False

    async def models(self) -> list[dict[str, Any]]:
        return [
            {
                "name": "echo",
                "installed": True,
                "size": 5_000_000_000,
                "languages": ["en", "zh"],
                "path": None,
            },
            {"name": "slow", "installed": False, "size": 0, "languages": []},
        ]

    def loaded(self) -> tuple[LoadedModel, ...]:
        sizes = {"memory": 3 << 20, "memory_private": 2 << 20, "memory_mapped": 1 << 20}
        placement = Placement(0, 4096, 2)
        how = {
            "placement": placement,
            "speculation": Speculation("lookup", 1.25),
            "buffers": {"CPU": {"kv": 5}},
        }
        return (LoadedModel("echo", Path("/models/echo.gguf"), 42, 0.5, **sizes, **how),)

    async def statistics(self) -> dict[str, Any]:
        model = {"name": "echo", "path": "/models/echo.gguf", "pid": 42, "memory": 3 << 20}
        done = {"command": "volume.set", "status": "done", "code": None, "at": 1.5, "seconds": 0.25}
        return {
            "pid": 1,
            "memory": 1 << 20,
            "models": [model | Activity(time=1.0, running=1).to_json()],
            "power": Power(on_battery=True, profile="balanced").to_json(),
            "commands": [done],
        }

    def heed_power(self, power: Power) -> None:
        self.power = power

    def default_model(self) -> str:
        return "echo"

    async def devices(self) -> list[dict[str, Any]]:
        known = {"name": "CPU", "kind": "cpu", "memory_total": 1 << 34, "plugin": "cpu-haswell"}
        return [
            {**known, "features": ("AVX2", "RVV_VLEN=256")},
            {"name": "Vulkan0", "kind": "gpu", "memory_total": 1 << 33, "plugin": "vulkan", "features": ()},
        ]

    async def plan(self, model: str, options: Mapping[str, Any]) -> dict[str, Any]:
        return {"model": model, **options, "reasons": ["因为"]}

    def load(self, model: str, options: Mapping[str, Any] | None = None) -> Job[None]:
        async def work(progress: ProgressCallback) -> None:
            if model not in ("", "echo", "slow"):
                raise UnknownModel(model, ("echo",))
            progress(Progress("reading", 1, 4))
            if model == "slow":
                await self.release.wait()

        self.jobs.append(run_async("load", work, model))
        return self.jobs[-1]

    pull = load

    def convert(self, source: str, options: Mapping[str, Any]) -> Job[None]:
        async def work(progress: ProgressCallback) -> None:
            progress(Progress(f"{source} {dict(options)}", 1, 1))

        return run_async("convert", work, source)

    async def unload(self, model: str) -> None:
        if model == "echo":
            raise RuntimeError("a defect with a secret")
        self.unloaded.append(model)

    async def remove(self, name: str) -> None:
        raise UnknownModel(name, ())

    async def prewarm(self, model: str) -> None:
        self.on_change("LoadedModels")

    async def embed(self, model: str, texts: Sequence[str]) -> list[list[float]]:
        if model == "echo":
            raise UnsupportedModel("/models/echo.gguf", "it states no pooling, so it makes no vectors")
        self.embedded.append(len(texts))
        try:
            if model == "slow":
                await self.release.wait()
        except asyncio.CancelledError:
            self.embedded.append(0)
            raise
        return [[float(len(text)), 0.5] for text in texts]

    async def create_session(self, options: Mapping[str, Any]) -> FakeSession:
        for option in options:
            if option not in ("model", "system", "overflow"):
                raise UnknownOption(option, ("model", "system", "overflow"))
        self.sessions.append(FakeSession(options.get("model", "echo")))
        return self.sessions[-1]

    async def switch_model(self, session: FakeSession, model: str) -> None:
        if model not in ("echo", "vectors"):
            raise UnknownModel(model, ("echo",))
        session.switch_model(model)

    async def interpret(self, utterance: str, options: Mapping[str, Any]) -> dict[str, Any]:
        if "?" in utterance:
            return {"command": None, "arguments": {}, "kylin": None, "confidence": 0.9, "alternatives": []}
        return {
            "command": "volume.set",
            "arguments": {"level": 40},
            "kylin": {"name": "音量控制", "value": "set"},
            "confirm": False,
            "confidence": 0.97,
            "alternatives": [{"command": "volume.get", "arguments": {}, "confidence": 0.02}],
            "ms": {"total": 1.5},
        }

    def commands(self) -> list[dict[str, Any]]:
        return [
            {"id": "volume.set", "description": {"en": "Set the volume"}, "arguments": [{"name": "level"}]}
        ]

    def busy(self) -> bool:
        return self.is_busy

    @property
    def answering(self) -> bool:
        return self.is_busy

    async def close(self) -> None:
        self.closed = True
