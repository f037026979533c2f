"""Which sequence holds which tokens, so that a prompt's known beginning is never computed twice.

A slot is one sequence id of the context. A finished request leaves its tokens in its slot. The next request
starts from the slot that shares most with it: in place when it continues that text, else by sharing cells
with a fresh slot, which is free in a unified KV cache. What was used last stays there; what was used before
is parked in memory, and some of it kept in files, from which it is put back.

Where memory cannot be cut (``Context.cuttable``), only a slot all of whose tokens the prompt begins with can
be used. There a copy of the sequence is kept at the end of each prompt: the point to which a retried or
edited turn goes back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from kylin_gguf.engine.context import Context, State
from kylin_gguf.engine.parking import Parking
from kylin_gguf.engine.prefix_store import PrefixStore
from kylin_gguf.engine.radix_tree import RadixTree, distinct

WORTH_READING = 16
"""Tokens that a file must save over what memory holds; fewer are computed sooner than read."""

WORTH_KEEPING = 32
"""Tokens below which a prefix is computed again rather than parked or written to disk."""

LONG_PROMPT = 256
"""Tokens to compute from which on it pays to park what waits in the KV cache first. Beside 1,500 idle cells a
prompt of 1,400 tokens took 6 % longer, ten times what a copy of them takes."""

IDLE_SHARE = 8
"""One part in so many of the KV cache is left to prefixes that wait there besides the one used last."""


@dataclass(eq=False)
class Slot:
    """One sequence. ``tokens`` are exactly what its part of the KV cache holds."""

    sequence: int
    tokens: list[int] = field(default_factory=list)
    busy: bool = True
    hits: int = 0
    """How many requests began from it."""
    worth: float = 0.0
    """Who is least worth is evicted first."""
    released: int = 0
    """When it was last given back, as a count of such events."""


class PrefixCache:
    """The slots of one context."""

    def __init__(self, context: Context, store: PrefixStore | None = None) -> None:
        self._context, self._store = context, store
        self._free = list(reversed(range(context.sequences)))
        self._slots: set[Slot] = set()
        self._tree: RadixTree[Slot] = RadixTree()
        self._parking = Parking()
        self._released = 0
        self._age = 0.0
        """The worth of what was evicted last: newcomers start from there, so that old hits do not count for
        ever (GreedyDual-Size-Frequency, Cherkasova 1998)."""

    @property
    def cells(self) -> int:
        """How many cells of the KV cache hold a token."""
        return distinct((slot.tokens for slot in self._slots), shared=self._context.cuttable)

    @property
    def parked(self) -> int:
        """Bytes of memory outside the KV cache that hold prefixes."""
        return self._parking.taken

    def acquire(self, prompt: Sequence[int]) -> tuple[Slot, int]:
        """Take a slot for ``prompt``; return it with the number of tokens it holds already.

        At least one token is left to compute, since its logits are what the request needs.
        """
        alone = not any(slot.busy for slot in self._slots)
        slot, cached = self._take(prompt)
        if alone and len(prompt) - cached >= LONG_PROMPT:  # else somebody's stream would wait for the copies
            self._clear_the_way()
        return slot, cached

    def _take(self, prompt: Sequence[int]) -> tuple[Slot, int]:
        wanted = prompt[:-1]
        source, shared = self._best(wanted)
        slot = self._put_back(wanted, shared + WORTH_READING)
        if slot:
            return slot, len(slot.tokens)
        if source is None:
            return self._new(), 0
        source.hits += 1
        source.worth = self._worth(source)
        if not source.busy and shared == len(source.tokens) and self._context.cuttable:
            source.busy = True
            return source, shared
        slot = self._new(keep=source)
        self._copy(source, slot, shared)
        return slot, shared

    def _best(self, wanted: Sequence[int]) -> tuple[Slot | None, int]:
        slots, length = self._tree.match(wanted) if self._context.cuttable else self._tree.match_whole(wanted)
        if not slots:
            return None, 0
        # Of several, one that ends where the prompt goes on can be taken over in place.
        return min(slots, key=lambda slot: (slot.busy, len(slot.tokens), slot.sequence)), length

    def _new(self, keep: Slot | None = None) -> Slot:
        while not self._free:
            if not self.evict(keep):
                raise AssertionError("there are more sequences than requests run at a time")
        slot = Slot(self._free.pop())
        self._slots.add(slot)
        return slot

    def _copy(self, source: Slot, target: Slot, length: int) -> None:
        self._context.share(source.sequence, target.sequence, length)
        target.tokens = source.tokens[:length]

    def _put_back(self, wanted: Sequence[int], least: int) -> Slot | None:
        """Return a slot with what is parked or on disk of ``wanted``, if that is ``least`` tokens or more."""
        whole = not self._context.cuttable
        parked, length = self._parking.match(wanted, whole=whole)
        path, on_disk = self._store.match(wanted, whole=whole) if self._store else (None, 0)
        if parked and length >= max(least, on_disk):
            # What goes on otherwise than the prompt is still its own conversation's.
            whole_entry = length == len(parked)
            state = self._parking.take(parked) if whole_entry else self._parking.read(parked)
            return self._restore(parked, state, length)
        if self._store and path and on_disk >= least:
            kept = self._store.read(path)
            return None if kept is None else self._restore(self._store.tokens(path), kept, on_disk)
        return None

    def _restore(self, tokens: Sequence[int], state: State, length: int) -> Slot | None:
        slot = self._new()
        while not self._context.restore(slot.sequence, state):
            if not self.evict(cells=True):
                self._drop(slot)
                return None
        self._context.truncate(slot.sequence, length)
        slot.tokens, slot.hits = list(tokens[:length]), 1
        return slot

    def computed(self, slot: Slot) -> None:
        """Note that ``slot`` now holds a whole prompt, which others may begin with from now on."""
        if self._context.cuttable:
            self._tree.insert(slot, slot.tokens)
            return
        whole, length = self._tree.match_whole(slot.tokens)
        if length == len(slot.tokens) and whole:
            return
        checkpoint = self._new(keep=slot)
        self._copy(slot, checkpoint, len(slot.tokens))
        self.release(checkpoint)

    def release(self, slot: Slot) -> None:
        """Give a slot back; its tokens stay for whoever shares them."""
        slot.busy = False
        same, length = self._tree.match_whole(slot.tokens)
        if not slot.tokens or (length == len(slot.tokens) and same - {slot}):
            self._drop(slot)
            return
        self._tree.insert(slot, slot.tokens)
        slot.worth = self._worth(slot)
        self._released += 1
        slot.released = self._released
        for victim in self._excess(spared=2):
            self._park(victim)

    @property
    def cluttered(self) -> bool:
        """Whether ``tidy`` would do something."""
        return next(self._excess(), None) is not None

    def tidy(self) -> None:
        """Park what waits in the KV cache beyond its part: unused cells slow every decode down.

        A copy takes as long as some tokens. So this is for a moment when nobody waits; until then one
        conversation may wait there that is too much.
        """
        for slot in self._excess():
            self._park(slot)

    def _excess(self, spared: int = 1) -> Iterator[Slot]:
        """Yield what waits beyond its part, the longest first, besides the ``spared`` slots used last. It has
        to be gone when the next is asked for."""
        room = self._context.length // IDLE_SHARE
        while True:
            idle = sorted((slot for slot in self._slots if not slot.busy), key=lambda slot: slot.released)
            waiting = idle[:-spared]
            if sum(map(self._tree.own, waiting)) <= room:
                return
            yield waiting[0]

    def _park(self, slot: Slot) -> None:
        """Move a slot's tokens out of the KV cache, unless they are still there in another's."""
        if self._tree.own(slot) >= WORTH_KEEPING:
            self._parking.put(slot.tokens, self._context.save(slot.sequence))
        self._drop(slot)

    def _clear_the_way(self) -> None:
        """Park every idle slot that takes much room in the KV cache, but none that would be lost."""
        for slot in [slot for slot in self._slots if not slot.busy]:
            size = self._context.state_size(slot.sequence)
            if self._tree.own(slot) >= WORTH_KEEPING and self._parking.can_hold(size):
                self._park(slot)

    def _worth(self, slot: Slot) -> float:
        # A token costs more to compute the more tokens stand before it.
        return self._age + (1 + slot.hits) * (1.0 + len(slot.tokens) / self._context.length)

    def forget(self, slot: Slot) -> None:
        """Empty a slot."""
        self._tree.remove(slot)
        self._context.truncate(slot.sequence, 0)
        slot.tokens = []

    def _drop(self, slot: Slot) -> None:
        self.forget(slot)
        self._slots.discard(slot)
        self._free.append(slot.sequence)

    def evict(self, keep: Slot | None = None, *, cells: bool = False) -> bool:
        """Empty the idle slot that is least worth; False if there is none.

        Args:
            keep: A slot to spare.
            cells: Whether KV cells are wanted, not just a sequence id: what others share gives none back.
        """
        idle = [slot for slot in self._slots if not slot.busy and slot is not keep]
        if cells:
            idle = [slot for slot in idle if self._tree.own(slot)] or idle
        if not idle:
            return False
        victim = min(idle, key=lambda slot: (slot.worth, slot.sequence))
        self._age = victim.worth
        self._park(victim)
        return True

    def known(self, prompt: Sequence[int]) -> int:
        """Return how many tokens of ``prompt`` memory holds."""
        wanted = prompt[:-1]
        parked = self._parking.match(wanted, whole=not self._context.cuttable)[1]
        return max(self._best(wanted)[1], parked)

    def save(self) -> None:
        """Write what is worth keeping to disk, before the model is unloaded."""
        if self._store is None:
            return
        for tokens, state in self._parking:
            if not self._store.has(tokens):
                self._store.write(tokens, state)
        idle = [slot for slot in self._slots if not slot.busy and len(slot.tokens) >= WORTH_KEEPING]
        # The most worth last: the store drops what was written first when it runs out of room.
        for slot in sorted(idle, key=lambda slot: slot.worth):
            longer_exists = self._context.cuttable and not self._tree.own(slot)
            if not longer_exists and not self._store.has(slot.tokens):
                self._store.write(slot.tokens, self._context.save(slot.sequence))
