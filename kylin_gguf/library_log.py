"""llama.cpp's log of this process, line by line: by itself it comes in pieces."""

from __future__ import annotations

import logging
from collections.abc import Callable

log = logging.getLogger(__name__)

LogSink = Callable[[int, str], None]
"""Gets a ggml_log_level (1 debug, 2 information, 3 warning, 4 error) and one line without its newline."""

_CONTINUED = 5  # ggml_log_level: this text continues the message before it
# Loading a model logs some hundred lines as information; they help nobody but who debugs it.
_PYTHON_LEVELS = {1: logging.DEBUG, 2: logging.DEBUG, 3: logging.WARNING, 4: logging.ERROR}


class LogLines:
    """Joins the pieces that llama.cpp logs into lines for ``sink``."""

    def __init__(self) -> None:
        self.sink: LogSink = _to_logging
        self._level = 0
        self._pending = ""

    def __call__(self, level: int, piece: bytes, _: object) -> None:
        """Take one piece, as llama_log_callback."""
        if level != _CONTINUED:
            if self._pending:
                self._flush()
            self._level = level
        self._pending += piece.decode("utf-8", errors="replace")
        *lines, self._pending = self._pending.split("\n")
        for line in lines:
            self.sink(self._level, line)

    def _flush(self) -> None:
        line, self._pending = self._pending, ""
        self.sink(self._level, line)


def _to_logging(level: int, line: str) -> None:
    log.log(_PYTHON_LEVELS.get(level, logging.DEBUG), "llama.cpp: %s", line)
