"""Where free text stands in an utterance: "search for <query>".

A pattern is an example in which ``<name>`` stands for any words. It fits an utterance that contains what is
written before, between and after these places; the words there are the values. Nothing is searched for by
regular expression, so the time is linear in the utterance for any pattern of any catalogue.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kylin_gguf.actuator.wording import inside_word

SLOT = re.compile(r"<([a-z0-9][a-z0-9_-]{0,39})>")
# What closes a sentence or surrounds a name is no part of the words said.
_AROUND = " ,.;:!?。，、；：！？…~'\"“”‘’「」『』《》()"
Spans = Mapping[str, tuple[int, int]]


@dataclass(frozen=True)
class Pattern:
    """Literals with a slot between each two: ``("search for", "")`` and ``("query",)``.

    ``refuses``: an utterance that it fits is none of the command, unless a longer pattern fits as well.
    """

    literals: tuple[str, ...]
    slots: tuple[str, ...]
    refuses: bool = False

    @property
    def length(self) -> int:
        """How much of an utterance it describes, in characters: the longer, the more it knows."""
        return sum(map(len, self.literals))

    def fit(self, text: str) -> Spans | None:
        """Return where the slots are in normalised ``text``, or None when the pattern does not fit.

        A slot is as short as it can be, the last one as long. Only a refusing pattern fits with no words in
        a slot.
        """
        end = len(text.rstrip(_AROUND))
        at = _find(text, self.literals[0], 0)
        spans = {}
        for slot, literal in zip(self.slots, self.literals[1:], strict=True):
            if at < 0:
                return None
            begin, last = at, slot == self.slots[-1]
            at = _ends(text, literal, begin, end) if last else _find(text, literal, begin + 1)
            if at < 0:
                return None
            spans[slot] = _trimmed(text, begin, at - len(literal))
            if spans[slot][0] == spans[slot][1] and not self.refuses:
                return None
        return spans


def _find(text: str, literal: str, start: int) -> int:
    """Where the first ``literal`` from ``start`` ends, as whole words; -1 when there is none."""
    found = text.find(literal, start)
    while found >= 0 and (inside_word(text, found) or inside_word(text, found + len(literal))):
        found = text.find(literal, found + 1)
    return found + len(literal) if found >= 0 else -1


def _ends(text: str, literal: str, start: int, end: int) -> int:
    """``end`` when ``text[start:end]`` ends with ``literal``, as whole words; -1 when it does not."""
    fits = text.endswith(literal, start, end) and not (literal and inside_word(text, end - len(literal)))
    return end if fits else -1


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """``text[start:end]`` without what surrounds it; a leading hyphen would make it an option."""
    inner = text[start:end].lstrip(_AROUND + "-")
    begin = end - len(inner)
    return begin, begin + len(inner.rstrip(_AROUND))


def parse(text: str, *, refuses: bool = False) -> Pattern | None:
    """Return normalised ``text`` as a pattern; None when it has no slot.

    Raises:
        ValueError: two slots have no words between them, a slot comes twice, or nothing but slots is there.
    """
    literals, slots = SLOT.split(text)[::2], SLOT.split(text)[1::2]
    if not slots:
        return None
    pattern = Pattern(tuple(literal.strip() for literal in literals), tuple(slots), refuses)
    if not all(pattern.literals[1:-1]) or len(set(slots)) < len(slots) or not any(pattern.literals):
        raise ValueError("each <name> comes once, with words between it and the next")
    return pattern


def ordered(patterns: Iterable[Pattern]) -> tuple[Pattern, ...]:
    """Return ``patterns`` in the order that ``best_fit`` tries them in: the longest first."""
    return tuple(sorted(dict.fromkeys(patterns), key=lambda p: (-p.length, not p.refuses)))


def best_fit(patterns: tuple[Pattern, ...], text: str) -> Spans | None:
    """Return the slots of the first of ``patterns`` that fits ``text``; None when none does or it refuses."""
    for pattern in patterns:
        spans = pattern.fit(text)
        if spans is not None:
            return None if pattern.refuses else spans
    return None
