"""Lists that executors keep up to date, such as the installed applications, and finding their entries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from kylin_gguf.actuator.wording import inside_word, normalise

MAX_CHOICES = 2000
MAX_NAMES = 8
"""What one entry may be called."""


@dataclass(frozen=True)
class Found:
    """Entries of a list that ``text[start:end]`` names: more than one when they share the name."""

    start: int
    end: int
    entries: tuple[str, ...]


@dataclass(frozen=True)
class Choices:
    """The entries of a list, each with the names it is called by. Made by ``read``, or ``NONE``."""

    names: Mapping[str, tuple[str, ...]]
    _entries: Mapping[str, tuple[str, ...]] = field(repr=False, compare=False)
    _lengths: tuple[int, ...] = field(repr=False, compare=False)

    def __contains__(self, entry: object) -> bool:
        return entry in self.names

    def merge(self, other: Choices) -> Choices:
        """Return the entries of both lists, with all their names."""
        entries = {**self.names, **other.names}
        return read({e: (*self.names.get(e, ()), *other.names.get(e, ())) for e in entries})

    def find(self, text: str) -> list[Found]:
        """Return the entries named in normalised ``text``: leftmost, then longest, without overlaps.

        A lookup for each position and length of name, so the time does not grow with the entries.
        """
        found, start = [], 0
        while start < len(text):
            ends = (start + length for length in self._lengths if start + length <= len(text))
            end = next((end for end in ends if self._named(text, start, end)), None)
            if end is None:
                start += 1
            else:
                found.append(Found(start, end, self._entries[text[start:end]]))
                start = end
        return found

    def _named(self, text: str, start: int, end: int) -> bool:
        """Whether ``text[start:end]`` is a name; in scripts with spaces, as whole words only."""
        return text[start:end] in self._entries and not (inside_word(text, start) or inside_word(text, end))


def read(entries: Mapping[str, Iterable[str]]) -> Choices:
    """Return the list with ``entries`` and their names; names that nothing is left of are dropped.

    A name is found as it is and without its spaces: "vs code", "vscode".
    """
    names = {}
    spellings: dict[str, dict[str, None]] = {}
    for entry, called in entries.items():
        names[entry] = tuple(dict.fromkeys(filter(None, map(normalise, called))))
        for name in names[entry]:
            for spelling in (name, name.replace(" ", "")):
                spellings.setdefault(spelling, {})[entry] = None
    lengths = sorted({len(spelling) for spelling in spellings}, reverse=True)
    return Choices(names, {s: tuple(found) for s, found in spellings.items()}, tuple(lengths))


NONE = read({})
"""The empty list."""
