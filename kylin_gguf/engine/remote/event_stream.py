"""Server-sent events, as the HTML standard has them (9.2.6), from a server that nobody vouches for."""

from __future__ import annotations

import re

from kylin_gguf.engine.remote.unusable import Unusable

MAX_EVENT = 1 << 20
"""Bytes of one event, and of one line."""

_LINE_END = re.compile(rb"\r\n|\n|\r")


class EventReader:
    """Turns bytes that come in pieces into the data of events; all that is not data is left out."""

    def __init__(self) -> None:
        self._pending = bytearray()
        self._data: list[bytes] = []
        self._size = 0

    def push(self, piece: bytes) -> list[str]:
        """Return the data of each event that ``piece`` completes.

        Raises:
            Unusable: a line or an event is too long, or not UTF-8.
        """
        self._pending += piece
        events: list[str] = []
        # Most of a long line's pieces hold no end: looking for it in all of the line each time would take
        # the square of its length.
        if b"\n" in piece or b"\r" in piece:
            held = 1 if self._pending.endswith(b"\r") else 0  # a line feed may belong to it
            whole = bytes(self._pending[: len(self._pending) - held])
            *lines, rest = _LINE_END.split(whole)
            self._pending = bytearray(rest) + self._pending[len(whole) :]
            events = [event for line in lines if (event := self._line(line)) is not None]
        self._check(len(self._pending))
        return events

    def _line(self, line: bytes) -> str | None:
        self._check(len(line))
        if not line:
            data, self._data, self._size = self._data, [], 0
            return _text(b"\n".join(data)) if data else None
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" "))
            self._size += len(value)
            self._check(self._size)
        return None

    @staticmethod
    def _check(length: int) -> None:
        if length > MAX_EVENT:
            raise Unusable(f"an event of more than {MAX_EVENT} bytes")


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise Unusable("bytes that are not UTF-8") from error
