"""What recognisers and typists make of a catalogue's terms, put right: 蓝鸭 → 蓝牙, airplaen → airplane.

A catalogue's terms and examples are all the language that is known here, and far from all of it. So only what
looks like nothing in the examples is replaced, and only by terms that tell commands apart: what stands in for
打开 could be anything, what stands in for 蓝牙 is about Bluetooth.
"""

from __future__ import annotations

import functools
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from kylin_gguf.actuator.features import TermMatcher
from kylin_gguf.actuator.inverted_index import InvertedIndex
from kylin_gguf.actuator.misspelling import Spelling

Terms = Mapping[str, tuple[str, ...]]

_HAN_RUN = re.compile("[\u3400-\u9fff]+")
_WORD = re.compile("[a-z]+")
# A term says which command is meant when its examples are of few: of this share of all, weighted by examples.
_FEW = 1 / 8
_SHORTEST, _LONG, _LONGEST = 2, 4, 6
# A slip in a term of two characters leaves one. Such a term must be common in the examples.
_COMMON = 30


class Repair:
    """The terms of a catalogue that utterances are repaired to. Immutable but for caches."""

    def __init__(
        self, terms: Terms, matcher: TermMatcher, index: InvertedIndex, commands: Sequence[str | None]
    ) -> None:
        """``index`` has the catalogue's examples, of which ``commands`` says what each is for.

        ``matcher`` finds ``terms``. The first one in a process takes 50 ms to read how characters sound.
        """
        self._matcher = matcher
        self._index = index
        telling = [name for name in terms if _tells(index, name, commands)]
        phrases = tuple(dict.fromkeys(phrase for name in telling for phrase in terms[name]))
        words = {word for phrase in phrases for word in _WORD.findall(phrase)}
        self._spelling = Spelling(word for word in words if ("word", word) in index.rows)
        self._by_sound = self._sounding(phrases)

    def __call__(self, text: str) -> str:
        """Return normalised ``text`` with its slips repaired: as many characters, one more or less a word."""
        return _WORD.sub(lambda word: self._english(word[0]), self._chinese(text))

    def _english(self, word: str) -> str:
        return word if ("word", word) in self._index.rows else self._spelling.correct(word)

    def _chinese(self, text: str) -> str:
        pieces, at = [], 0
        for run in _HAN_RUN.finditer(text):
            if all(self._seen(text, i) for i in range(run.start() + 1, run.end())):
                continue
            for start, phrase in self._misheard(text, run.start(), run.end()):
                pieces += [text[at:start], phrase]
                at = start + len(phrase)
        return "".join((*pieces, text[at:]))

    def _seen(self, text: str, i: int) -> bool:
        """Whether an example has the pair of characters ``text[i - 1 : i + 1]``."""
        return ("han2", text[i - 1 : i + 1]) in self._index.rows

    def _misheard(self, text: str, first: int, last: int) -> Iterator[tuple[int, str]]:
        """Yield where in ``text[first:last]`` a term was misheard, and that term, from left to right."""
        heard = [(start, end) for start, end, _ in self._matcher.spans(text) if first <= start < last]
        at = first
        while at < last:
            for end in range(min(last, at + _LONGEST), at + _SHORTEST - 1, -1):
                phrase = self._meant(text, at, end, heard, (first, last))
                if phrase is not None:
                    yield at, phrase
                    at = end
                    break
            else:
                at += 1

    def _meant(
        self, text: str, start: int, end: int, heard: Sequence[tuple[int, int]], run: tuple[int, int]
    ) -> str | None:
        said = text[start:end]
        meant = [
            phrase
            for phrase in self._by_sound.get(_sound(said), ())
            if _is_slip(said, phrase) and self._is_strange(text, start, phrase, heard, run)
        ]
        return max(meant, key=self._frequency, default=None)

    def _is_strange(
        self, text: str, start: int, phrase: str, heard: Sequence[tuple[int, int]], run: tuple[int, int]
    ) -> bool:
        """Whether the characters of ``text`` that ``phrase`` would replace are part of nothing known."""
        end = start + len(phrase)
        if any(a < start < b or a < end < b for a, b in heard):
            return False
        wrong = [start + i for i, c in enumerate(phrase) if text[start + i] != c]
        pairs = {j for i in wrong for j in (i, i + 1) if run[0] < j < run[1]}
        seen = [self._seen(text, j) for j in pairs]
        # What is left of a long term says so much that one known pair may stand beside the slip.
        known = all(seen) if len(phrase) >= _LONG else any(seen)
        return not known and not any(a <= i < b for i in wrong for a, b in heard)

    def _sounding(self, phrases: Sequence[str]) -> dict[tuple[str, ...], list[str]]:
        """Return those of ``phrases`` that can be misheard, by how they sound."""
        found: dict[tuple[str, ...], list[str]] = {}
        for phrase in phrases:
            if not _HAN_RUN.fullmatch(phrase) or not _SHORTEST <= len(phrase) <= _LONGEST:
                continue
            if self._frequency(phrase) >= (_COMMON if len(phrase) == _SHORTEST else 1):
                found.setdefault(_sound(phrase), []).append(phrase)
        return found

    def _frequency(self, phrase: str) -> int:
        """In how many examples ``phrase`` is, by its rarest part."""
        n = min(len(phrase), 3)
        parts = (phrase[i : i + n] for i in range(len(phrase) - n + 1))
        return min(len(self._index.having((f"han{n}", part))) for part in parts)


def _tells(index: InvertedIndex, concept: str, commands: Sequence[str | None]) -> bool:
    """Whether a term of ``concept`` says much about which command is meant, and that it is one."""
    said = [commands[i] for i in index.having(("concept", concept))]
    counts = Counter(command for command in said if command is not None)
    total = sum(counts.values())
    if not said or total * 2 < len(said):
        return False
    # The inverse of Simpson's index: as many commands as if all were equally frequent.
    spread = total**2 / sum(count**2 for count in counts.values())
    return spread <= max(1.0, _FEW * len(set(commands) - {None}))


def _is_slip(said: str, phrase: str) -> bool:
    same = sum(a == b for a, b in zip(said, phrase, strict=True))
    return len(phrase) > same >= len(phrase) / 2


@functools.cache
def _reading(character: str) -> str:
    """The usual reading without its tone, and without what many speakers do not tell apart."""
    # Phrases would cost 45 MB, and their characters' usual readings are what recognisers confuse.
    os.environ.setdefault("PYPINYIN_NO_PHRASES", "true")
    from pypinyin import lazy_pinyin  # noqa: PLC0415

    sound = "".join(lazy_pinyin(character))
    return re.sub("ng$", "n", re.sub("^([zcs])h", r"\1", sound))


def _sound(text: str) -> tuple[str, ...]:
    return tuple(map(_reading, text))
