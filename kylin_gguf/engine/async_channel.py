"""The service's end of a worker's control channel, for one asyncio event loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable

from kylin_gguf.engine import channel


class AsyncChannel:
    """Messages out in order, without blocking; messages in as an iterator. See ``engine.channel``."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._socket = connection
        self._outbox: asyncio.Queue[tuple[channel.Payload, Callable[[], int | None] | None]] = asyncio.Queue()
        self._writing: asyncio.Task[None] | None = None

    def post(self, payload: channel.Payload, descriptor: Callable[[], int | None] | None = None) -> None:
        """Queue ``payload``. ``descriptor`` is asked when its turn comes: None then means that there is
        nobody left to send it for."""
        self._outbox.put_nowait((payload, descriptor))
        self._writing = self._writing or asyncio.ensure_future(self._write())

    def finish(self) -> None:
        """Tell the worker to end; what it still says arrives."""
        with contextlib.suppress(OSError):  # not connected any more: the worker went first
            self._socket.shutdown(socket.SHUT_WR)

    def abandon(self) -> None:
        """End ``events``, whatever the worker does."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Give up the socket."""
        if self._writing:
            self._writing.cancel()
        self._socket.close()

    async def events(self) -> AsyncIterator[channel.Payload]:
        """Yield the worker's messages until the channel closes."""
        loop = asyncio.get_running_loop()
        pending = bytearray()
        while True:
            try:
                data = await loop.sock_recv(self._socket, 1 << 16)
            except OSError:
                return
            if not data:
                return
            pending += data
            *lines, pending = pending.split(b"\n")
            for line in lines:
                yield channel.decode(line)

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            payload, find_descriptor = await self._outbox.get()
            data = channel.encode(payload)
            try:
                if find_descriptor is not None:
                    descriptor = find_descriptor()
                    if descriptor is None:
                        continue
                    sent = await self._send_with_fd(data[:1], descriptor)
                    data = data[sent:]
                await loop.sock_sendall(self._socket, data)
            except OSError:
                return  # the worker is gone; whoever reads the events learns of it

    async def _send_with_fd(self, data: bytes, descriptor: int) -> int:
        """Send one byte with the fd attached: one byte cannot be sent in part."""
        while True:
            try:
                return socket.send_fds(self._socket, [data], [descriptor])
            except BlockingIOError:
                await _writable(self._socket)


async def _writable(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_writer(connection.fileno(), _resolve, ready)
    try:
        await ready
    finally:
        loop.remove_writer(connection.fileno())


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
