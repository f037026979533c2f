"""English words with one slip of the fingers, against the few words that a catalogue cares about.

There is no dictionary to tell a slip from a rare word, so what is not clearly a slip stays as it is: short
words, words that differ in the first letter, and endings, in which words are inflected. A slip is two letters
exchanged, one missing, one doubled, or one for its neighbour on the keyboard.
"""

from __future__ import annotations

from collections.abc import Iterable

# The fewest letters of a word with such a slip.
_SWAPPED, _DOUBLED, _BESIDE, _MISSING = 5, 6, 7, 7
# Each row of the keyboard, and how far it is moved to the right of the first one.
_ROWS = (("qwertyuiop", 0.0), ("asdfghjkl", 0.25), ("zxcvbnm", 0.75))
_KEYS = {key: (row, moved + at) for row, (keys, moved) in enumerate(_ROWS) for at, key in enumerate(keys)}


class Spelling:
    """Words, found by what is left of them without one letter (the symmetric deletes of SymSpell)."""

    def __init__(self, words: Iterable[str]) -> None:
        self._words = frozenset(word for word in words if len(word) >= _SWAPPED)
        self._by_rest: dict[str, set[str]] = {}
        for word in self._words:
            for rest in _rests(word):
                self._by_rest.setdefault(rest, set()).add(word)

    def correct(self, word: str) -> str:
        """Return the one word that ``word`` is a slip of, or else ``word``."""
        if len(word) < _SWAPPED or word in self._words:
            return word
        near = {w for rest in (word, *_rests(word)) for w in self._by_rest.get(rest, ())}
        near |= self._words.intersection(_rests(word))
        meant = [other for other in near if _is_slip(word, other)]
        return meant[0] if len(meant) == 1 else word


def _rests(word: str) -> set[str]:
    return {word[:i] + word[i + 1 :] for i in range(len(word))}


def _is_slip(typed: str, word: str) -> bool:
    """Whether ``typed`` is ``word`` with one slip, the two being one letter apart or two exchanged."""
    at = next((i for i, (a, b) in enumerate(zip(typed, word, strict=False)) if a != b), 0)
    if at == 0:
        return False
    rest, wanted = typed[at:], word[at:]
    if rest[:2] == wanted[1::-1] and rest[2:] == wanted[2:]:
        return True
    if len(rest) > len(wanted):
        likely = len(typed) > _DOUBLED and rest[0] == typed[at - 1]
    elif len(rest) < len(wanted):
        likely = len(typed) >= _MISSING
    else:
        likely = len(typed) >= _BESIDE and len(rest) > 1 and rest[1:] == wanted[1:]
        likely = likely and _are_neighbours(rest[0], wanted[0])
    return likely and not typed.endswith("ing")


def _are_neighbours(key: str, other: str) -> bool:
    (row, at), (other_row, other_at) = _KEYS[key], _KEYS[other]
    return abs(row - other_row) <= 1 and abs(at - other_at) <= 1.0
