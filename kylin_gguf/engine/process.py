"""The service's handle on a worker process: start it, send it requests, notice its death."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kylin_gguf.engine import assignment, questions
from kylin_gguf.engine.activity_reader import ActivityReader
from kylin_gguf.engine.assignment import Assignment
from kylin_gguf.engine.async_channel import AsyncChannel
from kylin_gguf.engine.channel import Payload
from kylin_gguf.engine.child import Child
from kylin_gguf.engine.generation import Generation
from kylin_gguf.engine.heartbeat import Heartbeat
from kylin_gguf.engine.memory import ProcessMemory
from kylin_gguf.engine.pending import PendingRequests
from kylin_gguf.errors import WorkerDied, WorkerHung, from_wire
from kylin_gguf.records import (
    Activity,
    InstalledModel,
    Message,
    Model,
    Overflow,
    Placement,
    RemoteModel,
    SamplingOptions,
    Settings,
    Speculation,
    StatesRequest,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

log = logging.getLogger(__name__)

_RELEASE_SECONDS = 15.0
"""How long a worker that is to end may take to let go of its streams: it does so after its decode step."""

_SAVE_SECONDS = 30.0
"""How long it may then take to exit: it may write some hundred megabytes of prefixes to a slow disk first."""


@dataclass(frozen=True)
class Listeners:
    """Who is told of a worker's life."""

    progress: Callable[[float], None]
    """Gets the share loaded, 0 to 1."""
    changed: Callable[[], None]
    """Called when something that ``LoadedModel`` tells has become known."""
    ended: Callable[[EngineProcess], None]
    """Called once when a loaded worker has ended, expectedly or not."""


@dataclass
class EngineProcess:
    """One worker with one loaded model. Make with ``start``."""

    model: Model
    placement: Placement | None
    load_s: float
    listeners: Listeners
    _child: Child
    _channel: AsyncChannel
    speculation: Speculation = field(default_factory=Speculation, init=False)
    buffers: dict[str, dict[str, int]] = field(default_factory=dict, init=False)
    """As in LoadedModel."""
    stepped_down: str = field(default="", init=False)
    """Why it holds the model with less than was planned, until a user was told."""
    failure: WorkerDied | WorkerHung | None = field(default=None, init=False)
    """How a loaded worker has ended that was not asked to."""
    _pending: PendingRequests = field(default_factory=PendingRequests, init=False)
    _incoming: AsyncIterator[Payload] = field(init=False)
    _reading: asyncio.Task[None] | None = field(default=None, init=False)
    _heartbeat: Heartbeat = field(init=False)
    _activity: ActivityReader = field(init=False)
    _released: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _stopping: bool = field(default=False, init=False)
    _hung: WorkerHung | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._incoming = self._channel.events()
        self._heartbeat = Heartbeat(
            expecting=lambda: self._reading is None or self.busy,
            ping=lambda: self._channel.post({"op": "ping", "id": 0}),
            on_silence=self._give_up,
        )
        self._activity = ActivityReader(lambda: self._channel.post({"op": "activity", "id": 0}))

    @classmethod
    async def start(
        cls,
        model: InstalledModel,
        placement: Placement,
        settings: Settings,
        listeners: Listeners,
    ) -> EngineProcess:
        """Start a worker and load ``model`` in it.

        Raises:
            LoadFailed, UnsupportedModel, NativeError: as the worker reports them.
            WorkerDied, WorkerHung: it ended, or did nothing, while loading.
        """
        return await cls._start(assignment.held(model, placement, settings), listeners)

    @classmethod
    async def start_remote(cls, model: RemoteModel, listeners: Listeners) -> EngineProcess:
        """Start a worker that asks ``model``'s server. Nothing is sent to that before the first request.

        Raises:
            ConfigError: the server's token cannot be had.
            WorkerDied, WorkerHung: as of ``start``.
        """
        return await cls._start(assignment.asked_for(model), listeners)

    @classmethod
    async def _start(cls, assigned: Assignment, listeners: Listeners) -> EngineProcess:
        ours, theirs = socket.socketpair()
        with theirs:
            child = await Child.start(assigned.model.name, theirs, assigned.program)
        engine = cls(assigned.model, assigned.placement, 0.0, listeners, child, AsyncChannel(ours))
        try:
            await engine._load(assigned.load)
        except BaseException:
            await engine.stop()
            raise
        engine._heartbeat.loaded()
        engine._reading = asyncio.ensure_future(engine._read())
        return engine

    @property
    def pid(self) -> int:
        """The worker's process id."""
        return self._child.pid

    @property
    def busy(self) -> bool:
        """Whether a request runs."""
        return len(self._pending) > 0

    def news(self) -> str:
        """Return why it was stepped down, the first time that anybody asks; else nothing."""
        reason, self.stepped_down = self.stepped_down, ""
        return reason

    def memory(self) -> ProcessMemory:
        """Return what the worker has in memory now; zeros once it is gone."""
        return self._child.memory()

    async def activity(self) -> Activity:
        """Return what the worker does and has done, as ``ActivityReader.read``."""
        return await self._activity.read()

    def heed_power(self, save: bool, on_battery: bool) -> None:
        """Have threads chosen by energy, or by time; on battery that can tell the energy, too."""
        self._channel.post({"op": "power", "save": save, "on_battery": on_battery})

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
        request_id = self._pending.stream(generation)
        asked = questions.answer(messages, options, overflow, dropped, local=self.placement is not None)
        # The stream may have ended while the message waited: then there is nobody to tell.
        self._channel.post(
            asked | {"id": request_id},
            lambda: generation.fileno() if self._pending.streams(request_id) else None,
        )
        generation.handed_over(lambda: self._cancel(request_id))

    def _check_alive(self) -> None:
        if self._reading is None or self._reading.done() or self._stopping or self._hung:
            raise WorkerDied(self.model.name, "it has ended")

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """Return one vector a text, in order, each of Euclidean length 1. Cancelling the task stops the work
        between two batches.

        Raises:
            UnsupportedModel: the model makes no vectors.
            TextTooLong, InvalidValue, Busy, DecodeFailed, WorkerDied: as the worker reports them.
        """
        rows: list[list[float]] = questions.vectors(await self._ask(questions.embedding(texts))).tolist()
        return rows

    async def hidden_states(self, request: StatesRequest) -> NDArray[np.float32]:
        """Return what the model makes of each text, shape (texts, width of the model); see
        ``engine.embedding.hidden_states``. Cancelling the task stops the work between two batches.

        Raises:
            UnsupportedModel: the model generates nothing, or gives no hidden states out.
            TextTooLong, InvalidValue, Busy, DecodeFailed, TemplateFailed, WorkerDied: as the worker reports
                them.
        """
        return questions.vectors(await self._ask(questions.states(request)))

    async def _ask(self, payload: Payload) -> Payload:
        """Send a request that is answered in one message, and return that."""
        self._check_alive()
        request_id, future = self._pending.question()
        self._channel.post({**payload, "id": request_id})
        try:
            return await future
        except asyncio.CancelledError:
            self._cancel(request_id)
            raise

    def _cancel(self, request_id: int) -> None:
        self._channel.post({"op": "cancel", "id": request_id})

    async def stop(self) -> None:
        """End the worker: ask by closing the channel, insist with SIGKILL. Its streams end ``cancelled``.

        A worker that is still loading has nothing to lose and is not asked.
        """
        self._stopping = True
        self._heartbeat.stop()
        if self._reading:
            self._channel.finish()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._released.wait(), _RELEASE_SECONDS)
                await self._child.wait(_SAVE_SECONDS)
        self._child.kill()
        self._channel.abandon()
        if self._reading:
            await asyncio.wait([self._reading])  # unlike awaiting it, this leaves it alone when cancelled
        else:
            await self._child.bury()
            self._channel.close()

    # --- the channel --------------------------------------------------------------------------------

    async def _load(self, load: Payload) -> None:
        self._channel.post(load)
        async for event in self._incoming:
            self._heartbeat.heard()
            if event["event"] == "progress":
                self.listeners.progress(event["fraction"])
            elif event["event"] == "failed":
                raise from_wire(event["error"])
            elif event["event"] == "ready":
                self.load_s = event["load_s"]
                self.speculation = Speculation(**event["speculation"])
                self.buffers = event["buffers"]
                return
        if self._hung:
            raise self._hung
        await self._child.bury()
        raise self._child.death()

    def _give_up(self, silent_s: float) -> None:
        """Be done with a worker that hangs. Nobody waits for its end: in a driver it can outlive SIGKILL."""
        self._hung = WorkerHung(self.model.name, round(silent_s))
        log.error("%s", self._hung.statement())
        self._child.kill()
        self._channel.abandon()  # which wakes whoever reads it

    async def _read(self) -> None:
        try:
            async for event in self._incoming:
                self._heartbeat.heard()
                self._handle(event)
        except Exception:  # it is the side that parses other people's files: what it says may be anything
            log.exception("worker of %s broke the protocol", self.model.name)
            self._child.kill()
        self._heartbeat.stop()
        self._released.set()
        if not self._hung:
            await self._child.bury()
            if not self._stopping:
                log.error("%s", self._child.death().statement())
        self.failure = None if self._stopping else self._hung or self._child.death()
        # Its listeners first: what is asked again must not get this worker.
        self.listeners.ended(self)
        self._pending.end(self.failure)
        self._activity.ended()
        self._channel.close()
        await self._child.bury()

    def _handle(self, event: Payload) -> None:
        if event["event"] == "speculation":
            self.speculation = Speculation(**event["speculation"])
            self.listeners.changed()
        elif event["event"] == "activity":
            self._activity.heard(Activity(**event["activity"]))
        elif event["event"] == "released":
            self._released.set()
            self._pending.end(None)
        elif event["event"] != "pong":
            self._pending.settle(event)
