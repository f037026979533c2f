"""Prefixes in memory outside the KV cache, to be put back within milliseconds.

Cells of the KV cache that nobody uses are not free: each batch's mask covers them, and a prompt of 512 tokens
takes half as long again beside 3,500 of them (``bench`` case engine/prefill-512). A copy costs memory only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kylin_gguf.engine.context import State
from kylin_gguf.engine.radix_tree import RadixTree

Tokens = tuple[int, ...]

ROOM = 64 << 20
"""Bytes of all states together: some thousand tokens of the models that run on a CPU."""


class Parking:
    """States by their tokens, up to ``room`` bytes; the one parked first makes room."""

    def __init__(self, room: int = ROOM) -> None:
        self._room = room
        self.taken = 0
        """Bytes of what is here."""
        self._states: dict[Tokens, State] = {}
        self._tree: RadixTree[Tokens] = RadixTree()

    def __iter__(self) -> Iterator[tuple[Tokens, State]]:
        """Iterate over what is here, the longest parked first."""
        return iter(list(self._states.items()))

    def can_hold(self, size: int) -> bool:
        """Whether a state of so many bytes can be put here; others may have to give way."""
        return size <= self._room

    def put(self, tokens: Sequence[int], state: State) -> None:
        """Keep ``state`` if it fits at all; what begins it is dropped, since it is in it."""
        key = tuple(tokens)
        for shorter in self._tree.match_whole(tokens)[0] | ({key} & self._states.keys()):
            self.take(shorter)
        if not self.can_hold(state.size):
            return
        while self.taken + state.size > self._room:
            self.take(next(iter(self._states)))
        self._states[key] = state
        self._tree.insert(key, tokens)
        self.taken += state.size

    def match(self, prompt: Sequence[int], *, whole: bool) -> tuple[Tokens | None, int]:
        """Return which entry shares most tokens with ``prompt``, and how many; with ``whole``, of those that
        ``prompt`` begins with."""
        keys, length = self._tree.match_whole(prompt) if whole else self._tree.match(prompt)
        return min(keys, key=len, default=None), length

    def read(self, key: Tokens) -> State:
        """Return an entry's state and leave it here."""
        return self._states[key]

    def take(self, key: Tokens) -> State:
        """Take an entry out and return its state."""
        self._tree.remove(key)
        state = self._states.pop(key)
        self.taken -= state.size
        return state
