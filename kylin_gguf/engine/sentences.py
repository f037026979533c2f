"""Whole sentences out of a stream of text, in Chinese and English, for reading aloud.

A sentence is given as soon as it is sure to be one, which takes the character behind its end, and behind an
abbreviation the next word. Code is left out, and so is what has nothing to be read, such as a line of emoji.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

MAX_CHARS = 400
"""Text without an end is cut at a comma or a space before this length."""

_ENDS = "。！？｡"
_ASCII_ENDS = "!?"
_CLOSING = "”’」』）》〉】〕）)]}\"'*_"
_PAUSES = "，、；：,;:— "
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_MARKER = re.compile(r"(\d{1,3}|[A-Za-z])")
_DOTTED = re.compile(r"(?:[A-Za-z]\.)+[A-Za-z]")
_CJK = re.compile("[\u3000-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff00-\uffef]")

# ruff: noqa: SIM905 - words to be read
_NEVER_LAST = frozenset(
    "mr mrs ms mx dr prof rev hon gen col maj capt lt sgt mt sen rep gov pres vs cf eg ie viz approx".split()
)
"""Abbreviations that something follows."""
_BEFORE_NUMBERS = frozenset(
    "no nos fig figs vol pp sec ch eq ref art jan feb mar apr jun jul aug sep sept oct nov dec".split()
)
"""Abbreviations where a number follows, and words or ends of sentences elsewhere."""
_MAYBE_LAST = frozenset(
    "etc inc ltd co corp bros jr sr esq al st ave blvd rd dept univ a.m p.m u.s u.k u.n e.u b.c".split()
)
"""Abbreviations that can end a sentence: they do when the next word has a capital."""


class SentenceSplitter:
    """Takes text in pieces of any size and gives whole sentences, without the white space around them."""

    def __init__(self) -> None:
        self._text = ""
        self._fence = ""
        """The fence that the code has begun with; empty outside of code."""
        self._line_start = True
        """Whether the held text begins where a line does."""

    def push(self, piece: str) -> list[str]:
        """Return the sentences that ``piece`` completes."""
        self._text += piece
        return self._take(final=False)

    def finish(self) -> list[str]:
        """Return what is left; the text ends here."""
        sentences = self._take(final=True)
        rest, self._text = self._text, ""
        return sentences if self._fence else [*sentences, *_spoken(rest)]

    def _take(self, *, final: bool) -> list[str]:
        sentences: list[str] = []
        while self._text:
            if self._line_start and not self._at_line_start(final=final):
                break
            if self._fence:
                if not self._skip_line():
                    break
                continue
            end = _end_of_sentence(self._text, final=final)
            if end is None:
                break
            sentences += _spoken(self._text[:end])
            self._line_start = self._text[end - 1] == "\n"
            self._text = self._text[end:].lstrip(" \t") if not self._line_start else self._text[end:]
        return sentences

    def _at_line_start(self, *, final: bool) -> bool:
        """Notice a fence; False while the line is too short to tell."""
        line, newline, _ = self._text.partition("\n")
        if not newline and not final and re.fullmatch(r" {0,3}(`*|~*)", line):
            return False
        found = _FENCE.match(line)
        if self._fence:
            closes = found and found[1].startswith(self._fence) and not line.strip(" `~")
            if closes and (newline or final):
                self._text = self._text[len(line) + len(newline) :]
                self._fence = ""
                return bool(self._text)
            return True
        if found:
            if not newline and not final:
                return False
            self._fence = found[1]
            self._text = self._text[len(line) + len(newline) :]
            return bool(self._text)
        self._line_start = False
        return True

    def _skip_line(self) -> bool:
        """Drop a line of code; False when it is not whole."""
        _, newline, rest = self._text.partition("\n")
        if newline:
            self._text = rest
        return bool(newline)


def split(text: str) -> list[str]:
    """Return the sentences of a whole text."""
    splitter = SentenceSplitter()
    return [*splitter.push(text), *splitter.finish()]


def _spoken(text: str) -> list[str]:
    """Return ``text`` as a list, empty when there is nothing in it to be read."""
    return [text.strip()] if any(character.isalnum() for character in text) else []


def _end_of_sentence(text: str, *, final: bool) -> int | None:
    """Return how long the first sentence is; None when that is not known yet, or there is no end."""
    at, in_code = 0, False
    while at < len(text):
        character = text[at]
        if character == "\n":
            return at + 1
        if character == "`":
            in_code = not in_code
        elif not in_code and (character in _ENDS + _ASCII_ENDS or character in ".…"):
            behind = _behind(text, at)
            if behind == len(text) and not final:
                break
            ends = _ends_here(text, at, behind, final=final)
            if ends is None:
                break
            if ends:
                return behind
            at = behind
            continue
        at += 1
    return _forced_end(text) if len(text) > MAX_CHARS else None


def _behind(text: str, at: int) -> int:
    """Return the place behind an end mark, its repetitions, what closes, and emoji that stand right there."""
    while at < len(text) and text[at] in _ENDS + _ASCII_ENDS + ".…":
        at += 1
    while at < len(text) and (text[at] in _CLOSING or _is_emoji(text[at])):
        at += 1
    return at


def _ends_here(text: str, at: int, behind: int, *, final: bool) -> bool | None:
    """Return whether the mark at ``at`` ends a sentence; None when what follows has to come first."""
    mark, following = text[at], text[behind : behind + 1]
    if mark in _ENDS:
        return True
    beside = not following or following.isspace()
    if mark in _ASCII_ENDS:
        return beside or bool(_CJK.match(following))
    if mark == "…" or text.startswith("..", at):
        return beside and _next(text, behind, final=final, ends=_begins_sentence)
    if not beside:
        return bool(_CJK.match(following)) and not text[at - 1 : at].isdigit()
    return _dot_ends(text, at, behind, final=final)


def _dot_ends(text: str, at: int, behind: int, *, final: bool) -> bool | None:
    """Decide about a full stop that white space follows."""
    before = text[:at]
    word = re.split(r"[\s(\[“‘\"'—/]", before)[-1]
    lower = word.lower()
    if not before.strip() or _MARKER.fullmatch(before.strip(" \t*_#>-")):
        return False  # "1. First"
    if lower in _NEVER_LAST or (len(word) == 1 and word.isalpha() and word.isupper() and word != "I"):
        return False  # "Dr. Who", "J. Doe"
    if lower in _BEFORE_NUMBERS:
        return _next(text, behind, final=final, ends=_is_no_number)
    if lower in _MAYBE_LAST or _DOTTED.fullmatch(word):
        known = lower in _MAYBE_LAST
        return known and _next(text, behind, final=final, ends=_begins_sentence)
    return True


def _next(text: str, at: int, *, final: bool, ends: Callable[[str], bool]) -> bool | None:
    """Return what ``ends`` says of the next character that is no space; None while there is none."""
    following = text[at:].lstrip(" \t")[:1]
    if not following:
        return True if final else None
    return ends(following)


def _begins_sentence(character: str) -> bool:
    return character == "\n" or character.isupper() or bool(_CJK.match(character))


def _is_no_number(character: str) -> bool:
    return not character.isdigit()


def _forced_end(text: str) -> int:
    places = [text.rfind(pause, 0, MAX_CHARS) for pause in _PAUSES]
    return max(places) + 1 or MAX_CHARS


def _is_emoji(character: str) -> bool:
    # The joiner and the variation selector hold several characters together.
    return character in "\u200d\ufe0f" or unicodedata.category(character) in ("So", "Sk")
