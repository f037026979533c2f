"""The worker's loop: what it takes in before a step."""

from __future__ import annotations

import os
import socket

from kylin_gguf.engine import channel
from kylin_gguf.engine.worker import Worker


class Noted:
    """Notes what would be asked for."""

    def __init__(self) -> None:
        self.ids: list[int] = []

    def handle(self, payload: channel.Payload, descriptor: int | None) -> None:
        assert descriptor is not None
        os.close(descriptor)
        self.ids.append(payload["id"])


def test_requests_that_came_together_are_all_read_before_a_step() -> None:
    ours, theirs = socket.socketpair()
    subject, noted = Worker(theirs, "build"), Noted()
    subject._requests = noted  # type: ignore[assignment]
    with ours, theirs:
        for number in range(20):
            end, other = socket.socketpair()
            message = channel.encode({"op": "generate", "id": number, "fd": True})
            socket.send_fds(ours, [message], [other.fileno()])
            end.close()
            other.close()
        subject._take_in(0)
    assert noted.ids == list(range(20))
