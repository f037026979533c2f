"""The loop of the process that holds one model; it speaks ``engine.channel`` on one socket.

One thread: it polls the channel and the clients' sockets, then lets the scheduler take one step, and so on.
A cancel, a closed stream or a new request therefore takes effect within one decode step; in the long steps of
a prompt, the loop listens too.
"""

from __future__ import annotations

import contextlib
import select
import socket

from kylin_gguf import frames
from kylin_gguf.engine import channel
from kylin_gguf.engine.requests import Requests
from kylin_gguf.engine.stream import ClientStream
from kylin_gguf.errors import KylinError


class Worker:
    """The loop, and the streams that are still open. What is asked for is ``Requests``' business."""

    def __init__(self, control: socket.socket, build: str) -> None:
        """``build`` names llama.cpp's build, which states on disk depend on."""
        self._control = control
        self._reader = channel.Reader(control)
        self._poll = select.epoll()
        self._poll.register(control.fileno(), select.EPOLLIN)
        self._streams: dict[int, tuple[int, ClientStream]] = {}
        """By file descriptor: the request's id and its stream."""
        self._awaited: set[int] = set()
        """Descriptors that are watched for room, because their clients are slow."""
        self._requests = Requests(self._send, self._open_stream, self._listen, build)
        self._serving = True

    def run(self) -> None:
        """Serve until the service closes its side of the channel; then keep on disk what is worth keeping."""
        working = False
        while self._serving:
            self._take_in(0 if working else self._requests.rest())
            self._sweep()
            working = self._serving and self._requests.step()
        self._release_streams()
        self._requests.close()

    def _listen(self) -> bool:
        """Take in what has arrived, in the middle of a decode; return whether to go on."""
        self._take_in(0)
        self._sweep()
        return self._serving

    def _take_in(self, timeout: float | None) -> None:
        events = self._poll.poll(timeout)
        while events:
            for descriptor, happened in events:
                if descriptor == self._control.fileno():
                    self._control_event()
                elif descriptor in self._streams:  # else an event before it has closed it
                    self._stream_event(descriptor, happened)
            # A read ends behind a message that carries a descriptor (unix(7)). Requests that came together
            # share a step only if all are read before it.
            heard = any(descriptor == self._control.fileno() for descriptor, _ in events)
            events = self._poll.poll(0) if heard and self._serving else []

    def _control_event(self) -> None:
        try:
            messages = self._reader.receive()
        except (EOFError, ConnectionResetError):
            self._serving = False
            return
        for payload, descriptor in messages:
            try:
                self._requests.handle(payload, descriptor)
            except KylinError as error:
                self._fail(payload, descriptor, error)

    def _fail(self, payload: channel.Payload, descriptor: int | None, error: KylinError) -> None:
        """Refuse a message: tell the client whose stream it carries, and the service."""
        stream = self._streams.get(descriptor or -1, (0, None))[1]
        if stream:
            stream.send(frames.error(error))
            stream.send(frames.end("error"))
        self._send({"event": "failed", "id": payload.get("id", 0), "error": error.to_wire()})

    def _send(self, payload: channel.Payload) -> None:
        channel.send(self._control, payload)

    # --- streams ------------------------------------------------------------------------------------

    def _open_stream(self, request_id: int, descriptor: int) -> ClientStream:
        """Take over a client's socket; it is watched from now on and closed once its end was written."""
        stream = ClientStream(socket.socket(fileno=descriptor))
        self._streams[descriptor] = (request_id, stream)
        self._poll.register(descriptor, 0)  # hang-ups are reported whatever the mask
        return stream

    def _stream_event(self, descriptor: int, events: int) -> None:
        _, stream = self._streams[descriptor]
        if events & (select.EPOLLHUP | select.EPOLLERR):
            stream.hang_up()
        elif events & select.EPOLLOUT:
            stream.flush()

    def _release_streams(self) -> None:
        """Close all streams, and say so: from now on only the service writes into them."""
        for _, stream in self._streams.values():
            stream.close()
        self._streams.clear()
        with contextlib.suppress(OSError):  # the service has gone, not just closed its side
            self._send({"event": "released", "id": 0})

    def _sweep(self) -> None:
        """Watch for room where a client is slow; close what has ended, and stop working for who has gone."""
        for descriptor, (request_id, stream) in list(self._streams.items()):
            if stream.drained or stream.closed:
                if stream.closed:
                    self._requests.cancel(request_id)
                del self._streams[descriptor]
                self._awaited.discard(descriptor)
                self._poll.unregister(descriptor)
                stream.close()
            elif stream.blocked != (descriptor in self._awaited):
                self._awaited ^= {descriptor}
                self._poll.modify(descriptor, select.EPOLLOUT if stream.blocked else 0)
