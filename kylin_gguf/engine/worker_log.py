"""What a worker says on standard error: kept apart from the service's own, logged, and quoted when it dies.

A line may begin with a priority, as sd-daemon(3) has it: ``<3>`` an error, ``<4>`` a warning, ``<6>``
information. The worker's own log has them. Lines without one are raw: abort messages of ggml, what a driver
prints, a traceback.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import time
from collections import deque
from collections.abc import Callable

log = logging.getLogger(__name__)

NO_MEMORY = re.compile(
    r"(failed|unable) to allocate|not enough space|out of memory|ErrorOutOf(Device|Host)Memory"
    r"|cudaMalloc failed|std::bad_alloc|MemoryError|cannot allocate memory (?!in static TLS)",
    re.IGNORECASE,
)
"""How llama.cpp, ggml and its back ends put it, in build 11312; C++, Python and glibc, when it
ends a process. Of the static TLS block there is no more to be had for a smaller model either."""

_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}
_LEVELS = {7: logging.DEBUG, 6: logging.INFO, 5: logging.INFO, 4: logging.WARNING}  # the rest: errors

_PRIORITY = re.compile(r"<([0-7])>")
_FRAME = re.compile(r'\s{4}|\s\sFile "|Traceback \(')
"""A traceback's lines, except the last, which names the exception."""

_LINE_BYTES = 2048
"""Longer lines are logged in pieces: a worker cannot make the service keep more."""

_READ_BYTES = 1 << 16
_PIPE_BYTES = 1 << 20  # more than a pipe holds
_QUOTED_LINES = 3
_QUOTED_CHARS = 300
_RECENT_S = 10.0
"""What was said earlier has nothing to do with a worker's end."""


class LevelFormatter(logging.Formatter):
    """Begins each line of the worker's log with its priority."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's lines, each with its prefix."""
        prefix = f"<{_PRIORITIES.get(record.levelno, 6)}>"
        return "\n".join(prefix + line for line in super().format(record).splitlines())


class WorkerLog:
    """The service's end of the pipe that a worker writes its standard output and error into.

    It is read whenever the event loop turns, so a worker that says much is not held up by it.
    """

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        """``name`` is the model's; it goes before each logged line."""
        self._name, self._clock = name, clock
        self._read_end, self.write_end = os.pipe()
        os.set_blocking(self._read_end, False)
        self._pending = b""
        self._errors: deque[tuple[float, str]] = deque(maxlen=_QUOTED_LINES)
        self._closed = False
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._read_end, self._read)

    def handed_over(self) -> None:
        """Close this process's copy of the end that the worker writes into."""
        os.close(self.write_end)

    def last_words(self) -> str:
        """Return the last errors and raw lines as one, empty unless they were said just now."""
        since = self._clock() - _RECENT_S
        return "; ".join(line for said, line in self._errors if said >= since)

    def tells_of_no_memory(self) -> bool:
        """Return whether the last words say that memory ran out."""
        return bool(NO_MEMORY.search(self.last_words()))

    def close(self) -> None:
        """Take what is still in the pipe, and close it. Does nothing the second time."""
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._read_end)
        try:
            self._take(os.read(self._read_end, _PIPE_BYTES) + b"\n")
        except BlockingIOError:  # empty, and a process that the worker started still holds the other end
            self._take(b"\n")
        os.close(self._read_end)

    def _read(self) -> None:
        data = os.read(self._read_end, _READ_BYTES)
        if data:
            self._take(data)
        else:  # at its end a pipe is always readable
            self._loop.remove_reader(self._read_end)

    def _take(self, data: bytes) -> None:
        *lines, self._pending = (self._pending + data).split(b"\n")
        for line in lines:
            for at in range(0, len(line), _LINE_BYTES):
                self._line(line[at : at + _LINE_BYTES])
        while len(self._pending) >= _LINE_BYTES:
            self._line(self._pending[:_LINE_BYTES])
            self._pending = self._pending[_LINE_BYTES:]

    def _line(self, data: bytes) -> None:
        text = data.decode("utf-8", "replace").rstrip()
        found = _PRIORITY.match(text)
        level = _LEVELS.get(int(found[1]), logging.ERROR) if found else logging.WARNING
        text = text[found.end() :] if found else text
        # A GGUF's own strings are among the text: none of it may steer a terminal.
        text = "".join(char if char.isprintable() else "?" for char in text.replace("\t", " "))
        if not text.strip():
            return
        log.log(level, "worker of %s: %s", self._name, text)
        if (level >= logging.ERROR or not found) and not _FRAME.match(text):
            self._errors.append((self._clock(), text.strip()[:_QUOTED_CHARS]))
