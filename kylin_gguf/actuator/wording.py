"""How an utterance is written: the one normal form that everything else in the actuator reads."""

from __future__ import annotations

import re
import unicodedata

from kylin_gguf.actuator.traditional import simplified

_INVISIBLE = re.compile(r"[\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
_SPACE = re.compile(r"\s+")
_HAN_GAP = re.compile(r"(?<=[\u4e00-\u9fff]) (?=[\u4e00-\u9fff])")
_HAN = re.compile(r"[\u3400-\u9fff]")
_APOSTROPHE = re.compile("[\u2018\u2019\u02bc]")


def normalise(text: str) -> str:
    """Return ``text`` in NFKC (full-width forms folded), lower case, single-spaced, simplified characters.

    Spaces between two Han characters are dropped, since speech recognisers insert them at pauses.
    Invisible characters, which could make two equal-looking utterances differ, are removed.
    """
    return simplified(_tidy(unicodedata.normalize("NFKC", _APOSTROPHE.sub("'", text)).casefold())).casefold()


def spoken(text: str) -> str:
    """Return ``normalise(text)`` with case and characters as they were, of the same length.

    In the few scripts where lower case is longer, and where a word of Taiwan's is, it is ``normalise(text)``
    itself.
    """
    folded, kept = normalise(text), _tidy(unicodedata.normalize("NFKC", _APOSTROPHE.sub("'", text)))
    return kept if len(kept) == len(folded) else folded


def _tidy(text: str) -> str:
    visible = "".join(c for c in _INVISIBLE.sub("", text) if c.isspace() or unicodedata.category(c) != "Cc")
    return _HAN_GAP.sub("", _SPACE.sub(" ", visible)).strip()


def inside_word(text: str, at: int) -> bool:
    """Whether position ``at`` lies within a word: between two letters or digits, neither of them Han."""
    around = text[max(0, at - 1) : at + 1]
    return len(around) == 2 and around.isalnum() and not _HAN.search(around)  # noqa: PLR2004
