"""A server with an OpenAI-compatible API whose every answer a test writes, byte by byte if it likes."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.loopback_http import Handler, serving

DONE = b"data: [DONE]\n\n"
USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 2}}


def event(value: object) -> bytes:
    """One server-sent event."""
    return b"data: " + (value if isinstance(value, bytes) else json.dumps(value).encode()) + b"\n\n"


def delta(finish: str | None = None, **content: Any) -> bytes:
    """One piece of an answer."""
    return event({"choices": [{"index": 0, "delta": content, "finish_reason": finish}]})


def answer(*words: str, finish: str = "stop") -> list[bytes]:
    """A whole answer, as vLLM and llama.cpp send it."""
    pieces = [delta(role="assistant", content=""), *(delta(content=word) for word in words)]
    return [*pieces, delta(finish), event({"choices": [], "usage": USAGE}), DONE]


@dataclass
class Asked:
    """One request that the server got. ``left`` is set when the client has closed the connection."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    left: threading.Event = field(default_factory=threading.Event)
    sent: int = 0
    """Bytes of the answer that the client's buffers have taken."""


@dataclass
class ChatServer:
    """``reply`` writes the answer to one request; what it writes is sent as it comes. ``judge`` gives the
    status of the answer, which is else ``status``."""

    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "text/event-stream"})
    reply: Callable[[Asked], Iterator[bytes]] = lambda _: iter(answer("Hel", "lo", "."))
    judge: Callable[[Asked], int] | None = None
    stopped: threading.Event = field(default_factory=threading.Event)

    def says(self, *pieces: bytes) -> None:
        """Answer every request with ``pieces``, and close the connection."""
        self.reply = lambda _: iter(pieces)

    def hangs_after(self, *pieces: bytes) -> None:
        """Answer every request with ``pieces``, and then with nothing."""

        def reply(asked: Asked) -> Iterator[bytes]:
            yield from pieces
            while not (asked.left.wait(0.01) or self.stopped.is_set()):
                pass

        self.reply = reply

    def serve(self, handler: BaseHTTPRequestHandler) -> None:
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        asked = Asked(handler.path, dict(handler.headers.items()), body)
        self.asked.append(asked)
        watch = threading.Thread(target=_watch, args=(handler.connection, asked), daemon=True)
        watch.start()
        handler.send_response(self.judge(asked) if self.judge else self.status)
        for name, value in self.headers.items():
            handler.send_header(name, value)
        handler.send_header("Connection", "close")
        handler.end_headers()
        try:
            for piece in self.reply(asked):
                handler.wfile.write(piece)
                asked.sent += len(piece)
        except OSError:
            asked.left.set()
        handler.close_connection = True


def _watch(connection: socket.socket, asked: Asked) -> None:
    """Notice that the client closes, in the midst of an answer, too."""
    try:
        while connection.recv(1):
            pass
    except OSError:
        pass
    asked.left.set()


@contextmanager
def serve(tls: ssl.SSLContext | None = None) -> Iterator[ChatServer]:
    """A server on this machine, until the block is left; encrypted with ``tls``."""
    behaviour = ChatServer()

    class Answering(Handler):
        def do_POST(self) -> None:
            behaviour.serve(self)

    with serving(Answering, behaviour.stopped, tls) as address:
        behaviour.url = f"{address}/v1"
        yield behaviour
