"""Requests that a worker was given and has not ended yet, seen from the service."""

from __future__ import annotations

import asyncio
from itertools import count

from kylin_gguf.engine.channel import Payload
from kylin_gguf.engine.generation import Generation, Outcome
from kylin_gguf.errors import Cancelled, KylinError, WorkerDied, from_wire
from kylin_gguf.records import Usage


class PendingRequests:
    """By id: streams that a worker writes into, and questions that it answers in one message."""

    def __init__(self) -> None:
        self._streams: dict[int, Generation] = {}
        self._answers: dict[int, asyncio.Future[Payload]] = {}
        self._ids = count(1)

    def __len__(self) -> int:
        return len(self._streams) + len(self._answers)

    def stream(self, generation: Generation) -> int:
        """Note a request that ends on ``generation``'s stream; return its id."""
        request_id = next(self._ids)
        self._streams[request_id] = generation
        return request_id

    def question(self) -> tuple[int, asyncio.Future[Payload]]:
        """Note a request that is answered in one message; return its id and what will hold that message."""
        request_id = next(self._ids)
        self._answers[request_id] = asyncio.get_running_loop().create_future()
        return request_id, self._answers[request_id]

    def streams(self, request_id: int) -> bool:
        """Return whether the request still has a stream that nobody has ended."""
        return request_id in self._streams

    def settle(self, event: Payload) -> None:
        """Take a worker's last message about a request; one that has ended already is ignored."""
        request_id = event["id"]
        error = from_wire(event["error"]) if event.get("error") else None
        if request_id in self._answers:
            _answer(self._answers.pop(request_id), event, error)
        elif request_id in self._streams:
            usage = Usage(**event["usage"]) if "usage" in event else None
            self._streams.pop(request_id).settle(
                Outcome(
                    event.get("reason", "error"), event.get("text", ""), usage, error, event.get("dropped", 0)
                )
            )

    def end(self, error: KylinError | None) -> None:
        """End all on behalf of a worker that cannot: with ``error``, or cancelled without."""
        for request_id in list(self._streams):
            generation = self._streams.pop(request_id)
            if not (isinstance(error, WorkerDied) and generation.lost(error)):
                generation.end("error" if error else "cancelled", error)
        for future in self._answers.values():
            if not future.done():
                future.set_exception(error or Cancelled())
        self._answers.clear()


def _answer(future: asyncio.Future[Payload], event: Payload, error: KylinError | None) -> None:
    if future.done():
        return
    if event["event"] == "failed":
        future.set_exception(error or Cancelled())
    else:
        future.set_result(event)
