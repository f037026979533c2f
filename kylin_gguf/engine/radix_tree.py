"""A radix tree over token sequences: common beginnings stored once, the longest match in one walk.

Each entry is a token sequence under a key of the caller's. A node carries the tokens between two branchings
and the keys of all entries that pass through it.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)


@dataclass
class _Node(Generic[Key]):
    run: list[int] = field(default_factory=list)
    children: dict[int, _Node[Key]] = field(default_factory=dict)
    keys: set[Key] = field(default_factory=set)
    ends: set[Key] = field(default_factory=set)
    """Entries that end with this run, not beyond it."""


class RadixTree(Generic[Key]):
    """Token sequences by key."""

    def __init__(self) -> None:
        self._root: _Node[Key] = _Node()
        self._entries: dict[Key, list[int]] = {}

    def __contains__(self, key: Key) -> bool:
        return key in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def tokens(self, key: Key) -> list[int]:
        """Return the entry's tokens; they are not to be changed."""
        return self._entries[key]

    def insert(self, key: Key, tokens: Sequence[int]) -> None:
        """Add an entry, in place of the key's last one."""
        self.remove(key)
        entry = self._entries[key] = list(tokens)
        node, depth = self._root, 0
        while depth < len(entry):
            child = node.children.get(entry[depth])
            if child is None:
                child = node.children[entry[depth]] = _Node(entry[depth:])
            else:
                shared = common_prefix(child.run, entry, depth)
                if shared < len(child.run):
                    child = self._split(node, child, shared)
            child.keys.add(key)
            depth += len(child.run)
            node = child
        node.ends.add(key)

    @staticmethod
    def _split(parent: _Node[Key], child: _Node[Key], at: int) -> _Node[Key]:
        upper = _Node(child.run[:at], {child.run[at]: child}, set(child.keys))
        parent.children[upper.run[0]] = upper
        child.run = child.run[at:]
        return upper

    def remove(self, key: Key) -> None:
        """Take an entry out; nothing if there is none."""
        entry = self._entries.pop(key, None)
        if entry is None:
            return
        node, depth = self._root, 0
        while depth < len(entry):
            child = node.children[entry[depth]]
            child.keys.discard(key)
            if not child.keys:  # nobody else passes here, nor further down
                del node.children[entry[depth]]
                return
            depth += len(child.run)
            node = child
        node.ends.discard(key)

    def match(self, prompt: Sequence[int]) -> tuple[frozenset[Key], int]:
        """Return the keys of the entries that share most tokens with ``prompt``, and how many that are."""
        node, depth, keys = self._root, 0, frozenset[Key]()
        while depth < len(prompt):
            child = node.children.get(prompt[depth])
            if child is None:
                break
            shared = common_prefix(child.run, prompt, depth)
            depth, keys = depth + shared, frozenset(child.keys)
            if shared < len(child.run):
                break
            node = child
        return keys, depth

    def match_whole(self, prompt: Sequence[int]) -> tuple[frozenset[Key], int]:
        """Like ``match``, among the entries all of whose tokens ``prompt`` begins with."""
        node, depth, keys, length = self._root, 0, frozenset[Key](), 0
        while depth < len(prompt):
            child = node.children.get(prompt[depth])
            if child is None or common_prefix(child.run, prompt, depth) < len(child.run):
                break
            depth, node = depth + len(child.run), child
            if child.ends:
                keys, length = frozenset(child.ends), depth
        return keys, length

    def own(self, key: Key) -> int:
        """Return how many of the entry's tokens no other entry shares."""
        entry = self._entries[key]
        node, depth = self._root, 0
        while depth < len(entry):
            node = node.children[entry[depth]]
            if len(node.keys) == 1:
                return len(entry) - depth
            depth += len(node.run)
        return 0


def common_prefix(run: Sequence[int], tokens: Sequence[int], start: int = 0) -> int:
    """Return how many tokens of ``run`` equal those of ``tokens`` from ``start`` on."""
    other = tokens[start : start + len(run)]
    if run == other:
        return len(run)
    for index, (x, y) in enumerate(zip(run, other, strict=False)):
        if x != y:
            return index
    return min(len(run), len(other))


def distinct(sequences: Iterable[list[int]], *, shared: bool) -> int:
    """Return how many tokens ``sequences`` have together; with ``shared``, common beginnings count once.

    What each adds to the one sorted before it is what no other has.
    """
    total = 0
    before: list[int] = []
    for tokens in sorted(sequences):
        total += len(tokens) - (common_prefix(before, tokens) if shared else 0)
        before = tokens
    return total
