"""From token bytes to text that may be shown: whole characters, and nothing of a stop string."""

from __future__ import annotations

import codecs
from collections.abc import Sequence


class TextAssembler:
    """Turns token bytes into text as early as is safe.

    Bytes of an unfinished UTF-8 character wait for the rest; text that may be the beginning of a stop
    string waits until it is known not to be.
    """

    def __init__(self, stops: Sequence[str] = ()) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._stops = tuple(stops)
        self._held = ""
        self._shown: list[str] = []
        self.stopped = False

    @property
    def text(self) -> str:
        """Everything shown so far."""
        return "".join(self._shown)

    def push(self, data: bytes) -> str:
        """Add a token's bytes; return the text that can be shown now. ``stopped`` tells of a stop string."""
        return self._release(self._held + self._decoder.decode(data))

    def finish(self) -> str:
        """Return what was held back; the stream ends here."""
        if self.stopped:
            return ""
        rest = self._held + self._decoder.decode(b"", final=True)
        self._held = ""
        self._shown.append(rest)
        return rest

    def _release(self, text: str) -> str:
        cuts = [at for at in (text.find(stop) for stop in self._stops) if at >= 0]
        if cuts:
            self.stopped = True
            ready, self._held = text[: min(cuts)], ""
        else:
            keep = self._overlap(text)
            ready, self._held = text[: len(text) - keep], text[len(text) - keep :]
        if ready:
            self._shown.append(ready)
        return ready

    def _overlap(self, text: str) -> int:
        """Return the length of the longest end of ``text`` that begins a stop string."""
        longest = max((len(stop) for stop in self._stops), default=0)
        for length in range(min(len(text), longest - 1), 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self._stops):
                return length
        return 0
