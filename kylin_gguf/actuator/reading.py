"""Two readings of one utterance: when to ask which is meant, and what the answer picks."""

from __future__ import annotations

import re
from typing import Literal

from kylin_gguf.actuator.catalogue import CommandCatalogue
from kylin_gguf.actuator.interpret import Choice, Interpretation
from kylin_gguf.actuator.replies import describe

Readings = tuple[Choice, Choice]
Picked = Literal[0, 1, "neither"]

CLOSE = 0.6
"""A second reading with this share of the first one's belief is close."""
LIKELY = 0.2
"""Below this belief a reading is not worth a question."""

_FIRST = re.compile(r"第一|前[一]?[个者项]|前面|^[1一]$|\b(?:first|former|1st|one)\b")
_SECOND = re.compile(r"第二|后[一]?[个者项]|后面|^[2二]$|\b(?:second|latter|2nd|two|last)\b")
_NEITHER = re.compile(
    r"都不|不是|算了|不用|不要|取消|没事|\b(?:neither|none|no|nothing|cancel|never ?mind|forget it)\b"
)
_WORD = re.compile(r"[a-z]{3,}|\d+|[㐀-鿿]{2}")


def open_readings(found: Interpretation) -> Readings | None:
    """Return the two likeliest readings when neither is clearly meant, but one of them is."""
    if found.command is not None:
        best = Choice(found.command, found.arguments, found.confidence)
        rival = found.alternatives[0] if found.alternatives else None
        close = rival is not None and rival.confidence >= max(LIKELY, CLOSE * best.confidence)
        return (best, rival) if rival is not None and close else None
    if len(found.alternatives) < 2:  # noqa: PLR2004
        return None
    first, second = found.alternatives[:2]
    likely = min(first.confidence, second.confidence) >= LIKELY
    return (first, second) if likely and first.confidence + second.confidence > found.confidence else None


def pick(text: str, readings: Readings, catalogue: CommandCatalogue) -> Picked | None:
    """Return which of ``readings`` normalised ``text`` picks; None when it is about something else."""
    first, second = bool(_FIRST.search(text)), bool(_SECOND.search(text))
    if first != second:
        return 0 if first else 1
    if _NEITHER.search(text):
        return "neither"
    said = _words(text)
    shares = [len(said & _about(choice, catalogue)) for choice in readings]
    if shares[0] == shares[1]:
        return None
    return 0 if shares[0] > shares[1] else 1


def _about(choice: Choice, catalogue: CommandCatalogue) -> set[str]:
    """Return the words that a reading is described by, in both languages."""
    command = catalogue.get(choice.command)
    texts = [describe(command, choice.arguments, language).lower() for language in ("zh", "en")]
    return _words(" ".join(texts))


def _words(text: str) -> set[str]:
    """Return English words, numbers, and pairs of Chinese characters."""
    pairs = {text[i : i + 2] for i in range(len(text) - 1)}
    return {word for word in pairs if _WORD.fullmatch(word)} | set(re.findall(r"[a-z]{2,}|\d+", text))
