"""A bounded, forward-only cursor over a GGUF header."""

from __future__ import annotations

import struct
from typing import Any, BinaryIO, Final

from kylin_gguf.errors import NotGguf, TruncatedGguf

U32: Final = struct.Struct("<I")
U64: Final = struct.Struct("<Q")
_CHUNK_BYTES: Final = 1 << 18
_INT64_MAX: Final = (1 << 63) - 1
_REASON_LENGTH: Final = 160


class Cursor:
    """A forward-only cursor over an open file that knows where the file ends."""

    def __init__(self, file: BinaryIO, path: str, size: int) -> None:
        self._file = file
        self._path = path
        self._buffer = b""
        self._at = 0  # cursor, within the buffer
        self._base = 0  # where the buffer starts, within the file
        self.size = size

    @property
    def position(self) -> int:
        """Bytes from the start of the file."""
        return self._base + self._at

    def refuse(self, reason: str) -> NotGguf:
        """Return, for the caller to raise, the error that says what is wrong with this file."""
        # Reasons quote names out of the file, and those may hold anything.
        shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in reason)
        return NotGguf(self._path, shown[:_REASON_LENGTH])

    def require(self, end: int) -> None:
        """Raise TruncatedGguf unless the file reaches up to ``end``."""
        if end > _INT64_MAX:
            raise self.refuse("it gives a length that no file can have")
        if end > self.size:
            raise TruncatedGguf(self._path, end, self.size)

    def _fill(self, count: int) -> None:
        """Have ``count`` bytes in the buffer from the cursor on."""
        if len(self._buffer) - self._at >= count:
            return
        self.require(self.position + count)
        rest = self._buffer[self._at :]
        self._base, self._at = self.position, 0
        parts = [rest]
        missing = count - len(rest)
        while missing > 0:
            part = self._file.read(max(missing, _CHUNK_BYTES))
            if not part:  # the file was cut while we read it
                raise TruncatedGguf(self._path, self._base + count, self._base + count - missing)
            parts.append(part)
            missing -= len(part)
        self._buffer = b"".join(parts)

    def take(self, count: int) -> bytes:
        """Return the next ``count`` bytes."""
        self._fill(count)
        start, self._at = self._at, self._at + count
        return self._buffer[start : self._at]

    def number(self, form: struct.Struct) -> Any:
        """Return the next value of the one-value ``form``."""
        self._fill(form.size)
        (value,) = form.unpack_from(self._buffer, self._at)
        self._at += form.size
        return value

    def skip(self, count: int) -> None:
        """Step over ``count`` bytes without reading them."""
        end = self.position + count
        self.require(end)
        if end <= self._base + len(self._buffer):
            self._at += count
        else:
            self._file.seek(end)
            self._buffer, self._at, self._base = b"", 0, end

    def skip_strings(self, count: int) -> None:
        """Step over ``count`` strings; a tight loop, because vocabularies have hundreds of thousands."""
        self.require(self.position + U64.size * count)
        length_at = U64.unpack_from
        while count:
            self._fill(U64.size)
            buffer, at, last = self._buffer, self._at, len(self._buffer) - U64.size
            while count and at <= last:
                at += U64.size + length_at(buffer, at)[0]
                count -= 1
            self.skip(at - self._at)

    def string_length(self, limit: int, what: str) -> int:
        """Return the length of the string that begins here, which must fit ``limit`` and the file."""
        length: int = self.number(U64)
        if length > limit:
            raise self.refuse(f"{what} of {length} bytes")
        self.require(self.position + length)
        return length

    def name(self, limit: int, what: str) -> str:
        """Return the string that begins here, which must be UTF-8."""
        raw = self.take(self.string_length(limit, what))
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise self.refuse(f"{what} is not UTF-8") from error
