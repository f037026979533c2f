"""The worker's end of a client's socket: frames out, back-pressure and hang-ups in."""

from __future__ import annotations

import errno
import os
import socket
from collections import deque

from kylin_gguf import frames
from kylin_gguf.engine import first_text

MAX_TEXT_CHARS = 4096
"""Text of one frame. Linux queues a Unix stream write of a few pages whole or not at all, so a frame this
small is never cut in two, even if the worker is killed between two of them."""


class ClientStream:
    """Frames queued for one client. Never blocks; ``blocked`` says when to stop producing."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._socket = connection
        self._begun = False
        self._queue: deque[bytes] = deque()
        self._ended = False
        self.closed = False
        """True once the client has gone."""

    def fileno(self) -> int:
        """Return the descriptor, for polling."""
        return self._socket.fileno()

    @property
    def blocked(self) -> bool:
        """Whether the client reads more slowly than we write."""
        return bool(self._queue)

    @property
    def drained(self) -> bool:
        """Whether the ``end`` frame has been written: nothing is left to do but close."""
        return self._ended and not self._queue

    def send(self, frame: frames.Frame) -> None:
        """Queue ``frame`` and write what the client's buffer takes; nothing once the client has gone.

        Who waits for the first text is let run at once.
        """
        if self.closed:
            return
        waited_for = False
        if frame["type"] in ("text", "reasoning"):
            if not self._begun:
                first_text.note(self._socket)
                self._begun = waited_for = True
            text = frame["text"]
            parts = [text[at : at + MAX_TEXT_CHARS] for at in range(0, len(text), MAX_TEXT_CHARS)]
            self._queue.extend(frames.encode({**frame, "text": part}) for part in parts)
        else:
            self._queue.append(frames.encode(frame))
            self._ended = frame["type"] == "end"
        self.flush()
        if waited_for:
            # Linux wakes a socket's reader on the writer's core, where it would wait for the scheduler's next
            # tick: the next token is being computed there by then.
            os.sched_yield()

    def flush(self) -> None:
        """Write queued frames until the buffer is full or the queue empty."""
        while self._queue and not self.closed:
            line = self._queue[0]
            try:
                sent = self._socket.send(line, socket.MSG_NOSIGNAL)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno not in (errno.EPIPE, errno.ECONNRESET):
                    raise
                self.hang_up()
                return
            if sent == len(line):
                self._queue.popleft()
            else:
                self._queue[0] = line[sent:]

    def hang_up(self) -> None:
        """Note that nobody reads any more."""
        self.closed = True
        self._queue.clear()

    def close(self) -> None:
        """Close our end; call when the queue is empty or the client has gone."""
        self._socket.close()
