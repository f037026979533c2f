"""A stream for a client that cannot receive descriptors: its frames as signals, sent to it alone."""

from __future__ import annotations

import asyncio
import socket

from kylin_gguf.bus.request import RequestObject

EVERY_S = 0.05
"""At most twenty signals a second: each wakes the bus daemon and the client."""
AT_ONCE_BYTES = 1 << 16


class SignalFeed:
    """Reads the client's end of a stream on its behalf.

    The next frames are read when the bus has taken the last ones, so a bus that is slow pauses the answer.
    """

    def __init__(self, request: RequestObject, stream: socket.socket) -> None:
        self._request, self._stream = request, stream
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to send. Called when the reply that names the request is with the bus."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        self._stream.setblocking(False)
        pending = b""
        with self._stream:
            while chunk := await asyncio.get_running_loop().sock_recv(self._stream, AT_ONCE_BYTES):
                *lines, pending = (pending + chunk).split(b"\n")
                if lines:
                    await self._request.send_frames([line.decode() for line in lines])
                    await asyncio.sleep(EVERY_S)
        self._request.start()  # Finished comes behind the last frame
