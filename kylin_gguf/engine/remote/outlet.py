"""A client's stream on an event loop: frames out, waiting where the client is slow, noticing that it went."""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Callable

from kylin_gguf.engine.stream import ClientStream
from kylin_gguf.frames import Frame

_UNWANTED_BYTES = 4096
"""Read, and thrown away, of what a client writes into its stream."""


class Outlet:
    """Takes over a client's socket; ``close`` gives it up."""

    def __init__(self, connection: socket.socket, gone: Callable[[], None]) -> None:
        """``gone`` is called when the client has left."""
        self._connection, self._gone = connection, gone
        self._stream = ClientStream(connection)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(connection, self._look)

    def post(self, frame: Frame) -> None:
        """Queue ``frame``, and write what the client takes."""
        self._stream.send(frame)
        if self._stream.closed:
            self._gone()

    async def room(self) -> None:
        """Return when all that was posted is with the client, or the client has left."""
        while self._stream.blocked:
            writable = self._loop.create_future()
            self._loop.add_writer(self._connection, _resolve, writable)
            try:
                await writable
            finally:
                self._loop.remove_writer(self._connection)
            self._stream.flush()

    def close(self) -> None:
        """Close our end."""
        self._loop.remove_reader(self._connection)
        self._stream.close()

    def _look(self) -> None:
        try:
            if self._connection.recv(_UNWANTED_BYTES):
                return
        except BlockingIOError:
            return
        except ConnectionResetError:  # it left with something unread
            pass
        self._loop.remove_reader(self._connection)
        # A client that has only closed its side for writing still reads.
        poll = select.poll()
        poll.register(self._connection, 0)
        if poll.poll(0):
            self._stream.hang_up()
            self._gone()


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
