"""The control channel between the service and a worker: JSON lines over a Unix stream socket, with fds.

Service to worker: ``load``, ``generate`` (carries the client's socket), ``embed``, ``states``,
``cancel``, ``activity``, ``power``, ``ping``.
Worker to service: ``progress``, ``ready``, ``speculation``, ``finished``, ``embedded``, ``failed``,
``activity``, ``pong``.

The service asks the worker to end by closing its side for writing. The worker then lets go of the clients'
streams and says so with ``released``, its last message; the service writes how they end. The worker may save
what it wants to keep before it exits.
"""

from __future__ import annotations

import json
import os
import socket
from collections import deque
from typing import Any

Payload = dict[str, Any]

MAX_MESSAGE = 64 * 1024 * 1024
"""Bytes of one line: far above any conversation, below what would hurt."""

_READ_SIZE = 1 << 16
_FDS_PER_READ = 16


class Reader:
    """Splits what arrives into messages and pairs each that carries an fd with its own."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._pending = bytearray()
        self._fds: deque[int] = deque()

    def receive(self) -> list[tuple[Payload, int | None]]:
        """Read once and return the complete messages.

        Raises:
            BlockingIOError: the socket does not block and has nothing.
            EOFError: the other side has closed.
            ValueError: the line is longer than MAX_MESSAGE or not JSON.
        """
        data, fds, _, _ = socket.recv_fds(self._socket, _READ_SIZE, _FDS_PER_READ)
        for descriptor in fds:  # the kernel makes them inheritable; no driver's helper may hold them open
            os.set_inheritable(descriptor, False)
        self._fds.extend(fds)
        if not data:
            raise EOFError
        self._pending += data
        if len(self._pending) > MAX_MESSAGE:
            raise ValueError(f"message of more than {MAX_MESSAGE} bytes")
        *lines, rest = self._pending.split(b"\n")
        self._pending = rest
        messages = []
        for line in lines:
            payload = decode(line)
            # An fd arrives with or before the bytes of the message it was sent with, and in order.
            messages.append((payload, self._fds.popleft() if payload.get("fd") else None))
        return messages


def encode(payload: Payload) -> bytes:
    """Return the line that carries ``payload``."""
    return json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes | bytearray) -> Payload:
    """Read one line back."""
    payload: Payload = json.loads(line)
    return payload


def send(connection: socket.socket, payload: Payload) -> None:
    """Write one message to a blocking socket."""
    connection.sendall(encode(payload))
