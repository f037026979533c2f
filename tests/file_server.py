"""A web server that serves files in ways a test can choose."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from urllib.parse import unquote

from tests.loopback_http import Handler, serving

PIECE = 1 << 12


@dataclass
class FileServer:
    """What the server does with each path, and what it was asked.

    ``break_after`` closes that many connections after the given numbers of body bytes, ``stall_after`` keeps
    them open without another byte; both only at paths that begin with ``trouble_at``, and where no end of a
    range was asked for. ``pause`` is how long it waits after each ``PIECE`` bytes, in seconds.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    statuses: dict[str, int] = field(default_factory=dict)
    refusals: dict[str, str] = field(default_factory=dict)
    """Hugging Face's X-Error-Code for a path with a status."""
    headers: dict[str, str] = field(default_factory=dict)
    etag: str = '"one"'
    ranges: bool = True
    break_after: list[int] = field(default_factory=list)
    stall_after: list[int] = field(default_factory=list)
    pause: float = 0.0
    trouble_at: str = ""
    stopped: threading.Event = field(default_factory=threading.Event)
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Serve one GET or HEAD."""
        path = unquote(handler.path)
        sent = dict(handler.headers.items())
        self.requests.append((handler.command, path, sent))
        if path in self.redirects:
            handler.send_response(302)
            handler.send_header("Location", self.redirects[path])
            return self._end(handler)
        status = self.statuses.get(path, 200 if path in self.files else 404)
        if status != 200:
            handler.send_response(status)
            if code := self.refusals.get(path):
                handler.send_header("X-Error-Code", code)
            return self._end(handler)
        body, start, bounded = self.files[path], 0, False
        asked = sent.get("Range", "")
        if asked and self.ranges and sent.get("If-Range", self.etag) == self.etag:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            start, bounded = int(first), bool(last)
            body = body[: int(last) + 1] if bounded else body
            if start >= len(body):
                handler.send_response(416)
                return self._end(handler)
            handler.send_response(206)
            handler.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(self.files[path])}")
        else:
            handler.send_response(200)
        handler.send_header("Content-Length", str(len(body) - start))
        if self.etag:
            handler.send_header("ETag", self.etag)
        for name, value in self.headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        if handler.command == "GET":
            trouble = path.startswith(self.trouble_at) and not bounded
            end = start + self.break_after.pop(0) if trouble and self.break_after else len(body)
            stall = self.stall_after.pop(0) if trouble and self.stall_after else None
            self._send(handler, body[start:end], stall)
        handler.close_connection = True
        return None

    def _send(self, handler: BaseHTTPRequestHandler, body: bytes, stall: int | None) -> None:
        for start in range(0, len(body[:stall]), PIECE if self.pause else len(body)):
            handler.wfile.write(body[:stall][start : start + PIECE] if self.pause else body[:stall])
            if self.pause:
                self.stopped.wait(self.pause)
        if stall is not None:
            handler.wfile.flush()
            self.stopped.wait()

    @staticmethod
    def _end(handler: BaseHTTPRequestHandler) -> None:
        handler.send_header("Content-Length", "0")
        handler.end_headers()


@contextmanager
def serve() -> Iterator[FileServer]:
    """A server on this machine, until the block is left."""
    behaviour = FileServer()

    class Answering(Handler):
        def do_GET(self) -> None:
            behaviour.answer(self)

        do_HEAD = do_GET

    with serving(Answering, behaviour.stopped) as address:
        behaviour.url = address
        yield behaviour
