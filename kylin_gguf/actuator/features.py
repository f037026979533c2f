"""Utterance → features: the lexical view that examples and utterances are compared in.

Chinese is read as character n-grams, other scripts as words, word pairs and word-internal 4-grams (for
inflection and typing errors). Numbers become one symbol, directions and catalogue terms become concepts,
which are the same symbol in both languages.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence

from kylin_gguf.actuator.compounds import COMPOUNDS
from kylin_gguf.actuator.quantities import Number, read

_PIECE = re.compile(r"#|[㐀-鿿]+|[^\W\d_]+(?:'[^\W\d_]+)*|\d+")
_HAN = re.compile(r"[㐀-鿿]")
_GRAM = 4
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_PLURALS = ("es", "s", "")

# How much one feature of each kind counts before its rarity does. Fitted by hand on leave-one-out
# accuracy over the shipped catalogue's own examples (bench/actuator_dev.py prints it).
WEIGHTS = {
    "concept": 2.0,
    "pair": 2.3,
    "han1": 0.2,
    "han2": 1.0,
    "han3": 0.6,
    "word": 1.0,
    "words": 0.6,
    "gram": 0.35,
}
Feature = tuple[str, str]


def mask(text: str, numbers: Sequence[Number]) -> str:
    """Return ``text`` with every number replaced by ``#``, so that any two values look alike."""
    parts, at = [], 0
    for number in numbers:
        parts += [text[at : number.start], " # "]
        at = number.end
    return "".join((*parts, text[at:]))


class TermMatcher:
    """Finds a catalogue's terms in text: leftmost, then longest; English terms at word boundaries only.

    A term is not found inside one of ``COMPOUNDS``, unless that is a term itself.
    """

    def __init__(self, terms: Mapping[str, tuple[str, ...]]) -> None:
        self._concepts: dict[str, str | None] = dict.fromkeys(COMPOUNDS)
        self._concepts |= {phrase: concept for concept, phrases in terms.items() for phrase in phrases}
        # No regular expression: compiling one takes 10 ms, and each enum argument of a catalogue has its own.
        self._starting: dict[str, list[str]] = {}
        for phrase in sorted(self._concepts, key=len, reverse=True):
            self._starting.setdefault(phrase[0], []).append(phrase)

    def find(self, text: str) -> list[str]:
        """Return the concepts of normalised ``text``, in order of mention."""
        return [concept for _, _, concept in self.spans(text) if concept is not None]

    def spans(self, text: str) -> Iterator[tuple[int, int, str | None]]:
        """Yield where normalised ``text`` has a term, and its concept; None where it has a compound."""
        at = 0
        while at < len(text):
            end = self._end(text, at)
            if end is None:
                at += 1
            else:
                yield at, end, self._concept(text[at:end])
                at = end

    def _end(self, text: str, at: int) -> int | None:
        """Return where the longest phrase ends that begins at ``at``, with the ending of its plural."""
        if at and text[at].isascii() and text[at - 1] in _LETTERS:
            return None
        for phrase in self._starting.get(text[at], ()):
            if text.startswith(phrase, at):
                end = at + len(phrase)
                if not phrase[-1].isascii():
                    return end
                for ending in _PLURALS:
                    stop = end + len(ending)
                    if text.startswith(ending, end) and text[stop : stop + 1] not in _LETTERS:
                        return stop
        return None

    def _concept(self, found: str) -> str | None:
        return next(
            self._concepts[form]
            for form in (found, found.removesuffix("s"), found.removesuffix("es"))
            if form in self._concepts
        )


def _han(run: str) -> Iterator[Feature]:
    for n in (1, 2, 3):
        for i in range(len(run) - n + 1):
            yield f"han{n}", run[i : i + n]


def _word(word: str) -> Iterator[Feature]:
    yield "word", word
    padded = f"^{word}$"
    for i in range(len(padded) - _GRAM + 1):
        yield "gram", padded[i : i + _GRAM]


def extract(text: str, terms: TermMatcher) -> set[Feature]:
    """Return the features of normalised ``text``."""
    quantities = read(text)
    masked = mask(text, quantities.numbers)
    concepts = {*terms.find(masked), *quantities.directions}
    if quantities.numbers or quantities.extremes:
        concepts.add("#")
    found: set[Feature] = {("concept", concept) for concept in concepts}
    # What is asked is mostly which two things come together, in whatever order the language puts them.
    found |= {("pair", f"{a} {b}") for a, b in itertools.combinations(sorted(concepts), 2)}
    previous = ""
    for piece in _PIECE.findall(masked):
        if _HAN.match(piece):
            found.update(_han(piece))
        elif piece != "#":
            found.update(_word(piece))
            found.add(("words", f"{previous} {piece}"))
        previous = piece if not _HAN.match(piece) else ""
    return found
