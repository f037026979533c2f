"""From token bytes to text that may be shown: whole characters, reasoning apart, and nothing of a stop
string."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from kylin_gguf.engine.reasoning import Parts, ReasoningSplitter, overlap


class StopFilter:
    """Holds back text that may be the beginning of a stop string until it is known not to be."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.stopped = False
        """Whether a stop string has come."""

    def push(self, text: str) -> str:
        """Return what of ``text`` and of the text before can be shown now."""
        if not self._stops:
            return text
        text = self._held + text
        cuts = [at for at in (text.find(stop) for stop in self._stops) if at >= 0]
        if cuts:
            self.stopped = True
            self._held = ""
            return text[: min(cuts)]
        shown = len(text) - overlap(text, self._stops)
        self._held = text[shown:]
        return text[:shown]

    def finish(self) -> str:
        """Return what was held back."""
        held, self._held = self._held, ""
        return held


class TextAssembler:
    """Turns token bytes into text as early as is safe.

    Bytes of an unfinished UTF-8 character wait for the rest. Stop strings are looked for in the answer only.
    """

    def __init__(self, stops: Sequence[str] = (), splitter: ReasoningSplitter | None = None) -> None:
        """``splitter`` takes reasoning out; without one, all text is the answer."""
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._splitter = splitter
        self._stops = StopFilter(stops)
        self.watches = bool(stops)
        """Whether there are stop strings, which end the answer at the token that completes one."""
        self._shown: list[str] = []

    @property
    def stopped(self) -> bool:
        """Whether a stop string has come: what follows is not shown."""
        return self._stops.stopped

    @property
    def text(self) -> str:
        """The answer as shown so far."""
        return "".join(self._shown)

    def push(self, data: bytes) -> Parts:
        """Add a token's bytes; return the text that can be shown now."""
        text = self._decoder.decode(data)
        parts = self._splitter.push(text) if self._splitter else Parts("", text)
        return self._show(parts.reasoning, self._stops.push(parts.answer))

    def finish(self) -> Parts:
        """Return what was held back; the stream ends here."""
        if self.stopped:
            return Parts("", "")
        text = self._decoder.decode(b"", final=True)
        parts = self._splitter.push(text) if self._splitter else Parts("", text)
        rest = self._splitter.finish() if self._splitter else Parts("", "")
        answer = self._stops.push(parts.answer + rest.answer)
        return self._show(parts.reasoning + rest.reasoning, answer + self._stops.finish())

    def _show(self, reasoning: str, answer: str) -> Parts:
        if answer:
            self._shown.append(answer)
        return Parts(reasoning, answer)
