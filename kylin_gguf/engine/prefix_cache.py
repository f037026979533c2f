"""Which sequence holds which tokens, so that a prompt's known beginning is never computed twice.

A slot is one sequence id of the context. A finished request leaves its tokens in its slot; the next request
starts from the slot that shares most with it, in place when it continues that text, else by sharing cells
with a fresh slot (free in a unified KV cache).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count

from kylin_gguf.engine.context import Context


@dataclass
class Slot:
    """One sequence. ``tokens`` are exactly what its part of the KV cache holds."""

    sequence: int
    tokens: list[int] = field(default_factory=list)
    busy: bool = False
    used: int = 0
    """When it was last released, on the cache's own clock."""


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """Return the length of the longest common beginning of two token sequences."""
    for index, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return index
    return min(len(a), len(b))


class PrefixCache:
    """The slots of one context."""

    def __init__(self, context: Context, sequences: int) -> None:
        self._context = context
        self._slots = [Slot(index) for index in range(sequences)]
        self._clock = count(1)

    @property
    def has_free(self) -> bool:
        """Whether ``acquire`` would find a slot."""
        return any(not slot.busy for slot in self._slots)

    def acquire(self, prompt: Sequence[int]) -> tuple[Slot, int] | None:
        """Take a free slot for ``prompt``; return it with the number of tokens it holds already, or None.

        At least one token is left to compute, since its logits are what the request needs.
        """
        free = [slot for slot in self._slots if not slot.busy]
        if not free:
            return None
        limit = len(prompt) - 1
        source = max(self._slots, key=lambda slot: (common_prefix(slot.tokens, prompt), slot.used))
        shared = min(common_prefix(source.tokens, prompt), limit)
        if shared < len(source.tokens) and not self._context.cuttable:
            shared = 0
        # Taking the source over in place would forget its own ending; do it when that is a continuation,
        # or when little of it would be kept by anyone.
        if not source.busy and shared * 2 >= len(source.tokens):
            target = source
        else:
            target = min(
                (slot for slot in free if slot is not source), key=lambda slot: slot.used, default=source
            )
        cached = self._prepare(source, target, shared)
        target.busy = True
        return target, cached

    def _prepare(self, source: Slot, target: Slot, shared: int) -> int:
        """Make ``target`` hold the first ``shared`` tokens of ``source``; return how many it really holds."""
        if target is source:
            return self._cut(target, shared)
        self.forget(target)
        if shared:
            self._context.share(source.sequence, target.sequence, shared)
            target.tokens = source.tokens[:shared]
        return len(target.tokens)

    def _cut(self, slot: Slot, length: int) -> int:
        if length < len(slot.tokens) and not self._context.truncate(slot.sequence, length):
            # Recurrent and some hybrid memories cannot be cut: compute the prompt again, honestly.
            self.forget(slot)
        del slot.tokens[length:]
        return len(slot.tokens)

    def release(self, slot: Slot) -> None:
        """Give a slot back; its tokens stay for whoever shares them."""
        slot.busy = False
        slot.used = next(self._clock)

    def forget(self, slot: Slot) -> None:
        """Empty a slot."""
        self._context.truncate(slot.sequence, 0)
        slot.tokens.clear()

    def evict(self) -> bool:
        """Empty the least recently used idle slot that holds something; False if there is none."""
        idle = [slot for slot in self._slots if not slot.busy and slot.tokens]
        if not idle:
            return False
        self.forget(min(idle, key=lambda slot: slot.used))
        return True
