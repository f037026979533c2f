"""A running generation, seen from the service: a socket pair, an outcome, and a way to stop it.

The client reads frames from ``stream``. The other end goes to a worker; the service keeps a copy of it, to
speak when no worker can: while a model loads, when it does not load, and when the worker has died.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from kylin_gguf import frames
from kylin_gguf.engine import first_text, sentences
from kylin_gguf.errors import KylinError, NothingToConfirm, WorkerDied
from kylin_gguf.frames import EndReason
from kylin_gguf.records import Usage

_UNWANTED_BYTES = 4096
"""Read, and thrown away, of what a client writes into its stream."""
_DELIVERY_SECONDS = 30.0
"""How long a client that does not read may keep the end of its stream from being delivered."""

_deliveries: set[asyncio.Task[None]] = set()
"""The event loop itself keeps only weak references to tasks."""


@dataclass(frozen=True)
class Outcome:
    """How a generation ended, and all the text it produced."""

    reason: EndReason
    text: str = ""
    usage: Usage | None = None
    error: KylinError | None = None
    dropped: int = 0
    """How many messages after the system prompt the prompt left out, for want of room."""


class Generation:
    """One stream of tokens. Tokens never pass through this process."""

    def __init__(self) -> None:
        self.stream, self._worker_end = socket.socketpair()
        """The client's end: hand its descriptor over and close this copy."""
        self._worker_end.setblocking(False)
        self.finished: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.cancelled = False
        self.speaks = False
        """Whether the client wants whole sentences, too."""
        self.on_lost: Callable[[KylinError], None] | None = None
        """Called, instead of the stream being ended, with what became of a worker that died before it had
        said anything. None: nobody asks again."""
        self._on_cancel: Callable[[], None] | None = None
        self._consent: asyncio.Future[bool] | None = None

    def fileno(self) -> int:
        """Return the descriptor of the worker's end."""
        return self._worker_end.fileno()

    def cancel(self) -> None:
        """Stop within one decode step; the stream ends ``cancelled``. Harmless once it has ended."""
        self.cancelled = True
        if self._on_cancel:
            self._on_cancel()

    def handed_over(self, on_cancel: Callable[[], None]) -> None:
        """Note that a worker now owns the request; ``on_cancel`` tells it to stop."""
        self._on_cancel = on_cancel

    def notice(self, code: str, fraction: float) -> None:
        """Tell the client how far a preparation has come: news, not part of the answer."""
        self.send(frames.notice(code, fraction))

    def send(self, frame: frames.Frame) -> None:
        """Write a frame that the service has to say, if the client listens. Only while no worker writes."""
        with contextlib.suppress(OSError):
            self._worker_end.send(frames.encode(frame), socket.MSG_NOSIGNAL)

    def say(self, text: str) -> None:
        """Write a text that is part of the answer, and its sentences if they are wanted."""
        self.send(frames.text(text))
        for sentence in sentences.split(text) if self.speaks else ():
            self.send(frames.sentence(sentence))

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Cancel when the client closes its end, as long as no worker watches it."""
        loop, descriptor = asyncio.get_running_loop(), self._worker_end.fileno()
        loop.add_reader(descriptor, self._look)
        try:
            yield
        finally:
            loop.remove_reader(descriptor)

    def _look(self) -> None:
        try:
            closed = not self._worker_end.recv(_UNWANTED_BYTES)
        except BlockingIOError:
            return
        except ConnectionResetError:  # it was closed with something unread in it
            closed = True
        if closed:
            asyncio.get_running_loop().remove_reader(self._worker_end.fileno())
            self.cancel()

    async def confirmed(self, seconds: float) -> bool:
        """Return the yes or no that ``confirm`` brings; raises TimeoutError after ``seconds``."""
        self._consent = asyncio.get_running_loop().create_future()
        try:
            return await asyncio.wait_for(self._consent, seconds)
        finally:
            self._consent = None

    def confirm(self, consent: bool) -> None:
        """Say yes or no to the command that waits for it; raises NothingToConfirm when none does."""
        if self._consent is None or self._consent.done():
            raise NothingToConfirm
        self._consent.set_result(consent)

    def lost(self, error: WorkerDied) -> bool:
        """Leave what becomes of the stream to ``on_lost``; False if nobody asks again, or must not: the
        client has something to read."""
        if self.on_lost is None or self.cancelled or first_text.given(self._worker_end):
            return False
        self.on_lost(error)
        return True

    def settle(self, outcome: Outcome) -> None:
        """Note the end that the worker has written."""
        self._worker_end.close()
        if not self.finished.done():
            self.finished.set_result(outcome)

    def end(self, reason: EndReason, error: KylinError | None = None, text: str = "") -> None:
        """End the stream on behalf of a worker that cannot; ``text`` is what was said in it."""
        last_words = frames.encode(frames.error(error)) if error else b""
        last_words += frames.encode(frames.end(reason))
        task = asyncio.ensure_future(_deliver(self._worker_end, last_words))
        _deliveries.add(task)
        task.add_done_callback(_deliveries.discard)
        if not self.finished.done():
            self.finished.set_result(Outcome(reason, text, error=error))


async def _deliver(connection: socket.socket, data: bytes) -> None:
    """Write ``data`` and close; give up on a client that does not read.

    Shutting down reaches the worker's copy, too: one that hangs cannot write behind the end when it wakes.
    """
    with connection, contextlib.suppress(OSError, TimeoutError):
        loop = asyncio.get_running_loop()
        await asyncio.wait_for(loop.sock_sendall(connection, data), _DELIVERY_SECONDS)
        connection.shutdown(socket.SHUT_WR)
