"""The service's handle on a worker process: start it, send it requests, notice its death."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import numpy as np

from kylin_gguf.engine.async_channel import AsyncChannel
from kylin_gguf.engine.channel import Payload
from kylin_gguf.engine.generation import Generation, Outcome
from kylin_gguf.errors import Cancelled, WorkerDied, from_wire
from kylin_gguf.records import (
    InstalledModel,
    Message,
    Overflow,
    Placement,
    SamplingOptions,
    ScoreRequest,
    Scores,
    Usage,
)

log = logging.getLogger(__name__)

_STOP_SECONDS = 5.0


@dataclass
class EngineProcess:
    """One worker with one loaded model. Make with ``start``."""

    model: InstalledModel
    placement: Placement
    load_s: float
    on_exit: Callable[[EngineProcess], None]
    _process: asyncio.subprocess.Process
    _channel: AsyncChannel
    _streams: dict[int, Generation] = field(default_factory=dict)
    _answers: dict[int, asyncio.Future[Payload]] = field(default_factory=dict)
    """Of requests that are answered in one message."""
    _ids: count[int] = field(default_factory=lambda: count(1))
    _incoming: AsyncIterator[Payload] = field(init=False)
    _reading: asyncio.Task[None] | None = field(default=None, init=False)

    @classmethod
    async def start(
        cls,
        model: InstalledModel,
        placement: Placement,
        native_dirs: Sequence[Path],
        progress: Callable[[float], None],
        on_exit: Callable[[EngineProcess], None],
    ) -> EngineProcess:
        """Start a worker and load ``model`` in it; ``progress`` gets the share loaded, 0 to 1.

        ``on_exit`` is called once when the worker has ended, expectedly or not.

        Raises:
            LoadFailed, UnsupportedModel, NativeError: as the worker reports them.
            WorkerDied: it ended while loading.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            # -P: the directory the service runs in must not supply our modules. A group of its own: Ctrl-C in
            # the service's terminal is the service's to handle.
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "kylin_gguf.engine", "--control", str(theirs.fileno())),
                pass_fds=[theirs.fileno()],
                process_group=0,
                stdin=asyncio.subprocess.DEVNULL,
                env=os.environ | {"KYLIN_GGUF_NATIVE_DIRS": os.pathsep.join(map(str, native_dirs))},
            )
        engine = cls(model, placement, 0.0, on_exit, process, AsyncChannel(ours))
        engine._incoming = engine._channel.events()
        try:
            await engine._load(progress)
        except BaseException:
            await engine.stop()
            raise
        engine._reading = asyncio.ensure_future(engine._read())
        return engine

    @property
    def pid(self) -> int:
        """The worker's process id."""
        return self._process.pid

    @property
    def busy(self) -> bool:
        """Whether a request runs."""
        return bool(self._streams or self._answers)

    def resident_memory(self) -> int:
        """Return the worker's resident set in bytes, mapped weights included; 0 once it is gone."""
        try:
            pages = Path(f"/proc/{self.pid}/statm").read_text(encoding="ascii").split()[1]
        except OSError:
            return 0
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    # --- requests -----------------------------------------------------------------------------------

    def generate(
        self,
        generation: Generation,
        messages: Sequence[Message],
        options: SamplingOptions,
        *,
        overflow: Overflow,
        dropped: int,
    ) -> None:
        """Answer ``messages`` on ``generation``'s stream; ``overflow`` and ``dropped`` are for
        ``engine.history.fit``.

        Raises:
            WorkerDied: the worker has ended; the generation is untouched.
        """
        self._check_alive()
        request_id = next(self._ids)
        self._streams[request_id] = generation
        payload = {
            "op": "generate",
            "id": request_id,
            "fd": True,
            "messages": [message.to_json() for message in messages],
            "options": options.to_json(),
            "overflow": overflow,
            "dropped": dropped,
        }
        # The stream may have ended while the message waited: then there is nobody to tell.
        self._channel.post(payload, lambda: generation.fileno() if request_id in self._streams else None)
        generation.handed_over(lambda: self._cancel(request_id))

    def _check_alive(self) -> None:
        if self._reading is None or self._reading.done():
            raise WorkerDied(self.model.name, "it has ended")

    async def score(self, request: ScoreRequest) -> Scores:
        """Score ``request.continuations`` against each other.

        Raises:
            InvalidValue, ContextFull, TemplateFailed, WorkerDied: as the worker reports them.
        """
        messages = [message.to_json() for message in request.messages]
        answer = await self._ask(
            {"op": "score", "messages": messages, "continuations": list(request.continuations)}
        )
        return Scores(tuple(answer["logprobs"]), answer["prefill_ms"], answer["score_ms"])

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """Return one vector a text, in order, each of Euclidean length 1. Cancelling the task stops the work
        between two batches.

        Raises:
            UnsupportedModel: the model makes no vectors.
            TextTooLong, InvalidValue, Busy, DecodeFailed, WorkerDied: as the worker reports them.
        """
        answer = await self._ask({"op": "embed", "texts": list(texts)})
        numbers = np.frombuffer(base64.b64decode(answer["vectors"]), np.float32)
        rows: list[list[float]] = numbers.reshape(answer["shape"]).tolist()
        return rows

    async def _ask(self, payload: Payload) -> Payload:
        """Send a request that is answered in one message, and return that."""
        self._check_alive()
        request_id = next(self._ids)
        future: asyncio.Future[Payload] = asyncio.get_running_loop().create_future()
        self._answers[request_id] = future
        self._channel.post({**payload, "id": request_id})
        try:
            return await future
        except asyncio.CancelledError:
            self._cancel(request_id)
            raise

    def _cancel(self, request_id: int) -> None:
        self._channel.post({"op": "cancel", "id": request_id})

    async def stop(self) -> None:
        """End the worker: ask by closing the channel, insist with SIGKILL. Its streams end ``cancelled``."""
        for request_id in list(self._streams):
            self._streams.pop(request_id).end("cancelled")
        self._channel.shut_down()
        try:
            await asyncio.wait_for(self._process.wait(), _STOP_SECONDS)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
        if self._reading:
            await self._reading
        else:
            self._channel.close()

    # --- the channel --------------------------------------------------------------------------------

    async def _load(self, progress: Callable[[float], None]) -> None:
        payload = {
            "op": "load",
            "path": str(self.model.path),
            "placement": self.placement.to_json(),
        }
        self._channel.post(payload)
        async for event in self._incoming:
            if event["event"] == "progress":
                progress(event["fraction"])
            elif event["event"] == "failed":
                raise from_wire(event["error"])
            elif event["event"] == "ready":
                self.load_s = event["load_s"]
                return
        raise WorkerDied(self.model.name, await self._status())

    async def _read(self) -> None:
        async for event in self._incoming:
            self._handle(event)
        status = await self._status()
        if self._streams or self._answers:
            log.error("worker of %s ended: %s", self.model.name, status)
        error = WorkerDied(self.model.name, status)
        for request_id in list(self._streams):
            self._streams.pop(request_id).end("error", error)
        for future in self._answers.values():
            if not future.done():
                future.set_exception(error)
        self._answers.clear()
        self._channel.close()
        self.on_exit(self)

    async def _status(self) -> str:
        code = await self._process.wait()
        return signal.Signals(-code).name if code < 0 else f"status {code}"

    def _handle(self, event: Payload) -> None:
        request_id = event["id"]
        error = from_wire(event["error"]) if event.get("error") else None
        if request_id in self._answers:
            future = self._answers.pop(request_id)
            if future.done():
                return
            if event["event"] == "failed":
                future.set_exception(error or Cancelled())
            else:
                future.set_result(event)
        elif request_id in self._streams:
            usage = Usage(**event["usage"]) if "usage" in event else None
            outcome = Outcome(
                event.get("reason", "error"), event.get("text", ""), usage, error, event.get("dropped", 0)
            )
            self._streams.pop(request_id).settle(outcome)
