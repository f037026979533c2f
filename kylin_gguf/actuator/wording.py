"""How an utterance is written: the one normal form that everything else in the actuator reads."""

from __future__ import annotations

import re
import unicodedata

_INVISIBLE = re.compile(r"[\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
_SPACE = re.compile(r"\s+")
_HAN_GAP = re.compile(r"(?<=[\u4e00-\u9fff]) (?=[\u4e00-\u9fff])")
_APOSTROPHE = re.compile("[\u2018\u2019\u02bc]")


def normalise(text: str) -> str:
    """Return ``text`` in NFKC (full-width forms folded), lower case, single-spaced.

    Spaces between two Han characters are dropped, since speech recognisers insert them at pauses.
    Invisible characters, which could make two equal-looking utterances differ, are removed.
    """
    folded = unicodedata.normalize("NFKC", _APOSTROPHE.sub("'", text)).casefold()
    visible = "".join(c for c in _INVISIBLE.sub("", folded) if c.isspace() or unicodedata.category(c) != "Cc")
    return _HAN_GAP.sub("", _SPACE.sub(" ", visible)).strip()
