"""The loop of the process that asks a server; to the service it is a worker as any other.

It speaks ``engine.channel``. All of it runs on one event loop: a cancel, a closed stream or a slow client
takes effect at once, since nothing here computes.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import logging
import socket
import time
from collections.abc import Callable, Coroutine
from typing import Any

from kylin_gguf.engine import channel
from kylin_gguf.engine.remote import embeddings
from kylin_gguf.engine.remote.answer import Answer
from kylin_gguf.engine.remote.outlet import Outlet
from kylin_gguf.engine.remote.server import Server
from kylin_gguf.errors import InternalError, KylinError, NotLocal
from kylin_gguf.frames import EndReason
from kylin_gguf.records import Activity, Message, RemoteModel, SamplingOptions, Speculation

log = logging.getLogger(__name__)


class RemoteWorker:
    """The loop, and the requests that are under way."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._reader = channel.Reader(control)
        self._handlers: dict[str, Callable[[channel.Payload, int | None], None]] = {
            "load": lambda payload, _: self._load(payload),
            "generate": self._generate,
            "embed": lambda payload, _: self._begin(payload["id"], self._embed(payload)),
            "states": lambda *_: self._refuse_states(),
            "cancel": lambda payload, _: self.cancel(payload["id"]),
            "activity": lambda payload, _: self._tell_activity(payload["id"]),
            "ping": lambda payload, _: self._send({"event": "pong", "id": payload["id"]}),
        }
        self._requests: dict[int, asyncio.Task[None]] = {}
        """Those that can be cancelled."""
        self._tasks: set[asyncio.Task[None]] = set()
        """Those, and what only waits for a client to read its end."""
        self._outlets: set[Outlet] = set()
        self._told_to_end = asyncio.Event()
        self._server: Server
        self._begun = self._texts = 0
        self._cached_tokens = self._prompt_tokens = self._generated_tokens = 0

    async def run(self) -> None:
        """Serve until the service closes its side of the channel."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._control, self._take_in)
        await self._told_to_end.wait()
        loop.remove_reader(self._control)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        # From now on only the service writes into the streams.
        for outlet in self._outlets:
            outlet.close()
        with contextlib.suppress(OSError):  # the service has gone, not just closed its side
            self._send({"event": "released", "id": 0})

    def _take_in(self) -> None:
        try:
            messages = self._reader.receive()
        except (EOFError, ConnectionResetError):
            self._told_to_end.set()
            return
        for payload, descriptor in messages:
            try:
                self._handlers[payload["op"]](payload, descriptor)
            except KylinError as error:
                self._fail(payload.get("id", 0), error)

    def _send(self, payload: channel.Payload) -> None:
        channel.send(self._control, payload)

    def _fail(self, request_id: int, error: KylinError | None) -> None:
        self._send({"event": "failed", "id": request_id, "error": error.to_wire() if error else None})

    def _begin(self, request_id: int, work: Coroutine[Any, Any, None]) -> None:
        task = self._requests[request_id] = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._begun += 1

    def cancel(self, request_id: int) -> None:
        """End a request now, and its connection with it."""
        if request_id in self._requests:
            self._requests[request_id].cancel()

    # --- handlers -----------------------------------------------------------------------------------

    def _load(self, payload: channel.Payload) -> None:
        began = time.perf_counter()
        self._server = Server(RemoteModel.from_json(payload["model"]))
        self._send(
            {
                "event": "ready",
                "load_s": time.perf_counter() - began,
                "speculation": Speculation().to_json(),
                "buffers": {},
            }
        )

    def _generate(self, payload: channel.Payload, descriptor: int | None) -> None:
        if descriptor is None:
            raise ValueError("generate came without a stream")
        request_id = int(payload["id"])
        connection = socket.socket(fileno=descriptor)
        outlet = Outlet(connection, functools.partial(self.cancel, request_id))
        self._outlets.add(outlet)
        self._begin(request_id, self._answer(request_id, outlet, payload))

    async def _answer(self, request_id: int, outlet: Outlet, payload: channel.Payload) -> None:
        options = SamplingOptions.from_options(payload["options"])
        messages = [Message.from_json(item) for item in payload["messages"]]
        answer = Answer(self._server, outlet, options)
        reason: EndReason = "error"
        failure: KylinError | None = None
        try:
            reason = await answer.run(messages, payload["overflow"], payload["dropped"])
        except asyncio.CancelledError:
            if self._told_to_end.is_set():
                raise
            reason = "cancelled"
        except KylinError as error:
            failure = error
        except Exception as error:  # whatever happens, the stream ends with an `end` frame
            log.exception("defect while asking %s", self._server.model.host)
            failure = InternalError(type(error).__name__)
        del self._requests[request_id]
        answer.finish(reason, failure)
        self._report(request_id, answer, reason, failure)
        await outlet.room()
        self._outlets.discard(outlet)
        outlet.close()

    def _report(self, request_id: int, answer: Answer, reason: EndReason, failure: KylinError | None) -> None:
        usage = answer.usage
        if usage:
            self._prompt_tokens += usage.prompt_tokens - usage.cached_tokens
            self._cached_tokens += usage.cached_tokens
            self._generated_tokens += usage.completion_tokens
        self._send(
            {
                "event": "finished",
                "id": request_id,
                "reason": reason,
                "text": answer.text,
                "dropped": answer.dropped,
                "error": failure.to_wire() if failure else None,
            }
            | ({"usage": usage.to_json()} if usage else {})
        )

    async def _embed(self, payload: channel.Payload) -> None:
        request_id, texts = int(payload["id"]), payload["texts"]
        try:
            shape, numbers = await embeddings.make(self._server, texts)
        except asyncio.CancelledError:
            if self._told_to_end.is_set():
                raise
            self._fail(request_id, None)
        except KylinError as error:
            self._fail(request_id, error)
        except Exception as error:  # the service waits for an answer, whatever happens
            log.exception("defect while asking %s", self._server.model.host)
            self._fail(request_id, InternalError(type(error).__name__))
        else:
            self._texts += len(texts)
            encoded = base64.b64encode(numbers).decode("ascii")
            self._send({"event": "embedded", "id": request_id, "shape": shape, "vectors": encoded})
        del self._requests[request_id]

    def _refuse_states(self) -> None:
        raise NotLocal(self._server.model.name, self._server.model.host, "hidden states")

    def _tell_activity(self, request_id: int) -> None:
        found = Activity(
            time=time.monotonic(),
            running=len(self._requests),
            requests=self._begun,
            cached_tokens=self._cached_tokens,
            prompt_tokens=self._prompt_tokens,
            generated_tokens=self._generated_tokens,
            texts=self._texts,
        )
        self._send({"event": "activity", "id": request_id, "activity": found.to_json()})
