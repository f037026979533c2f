"""A KV cache that keeps tokens instead of numbers, and tasks that check what it holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from kylin_gguf.engine.batch import Batch
from kylin_gguf.engine.prefix_cache import Slot
from kylin_gguf.engine.tasks.task import Priority
from kylin_gguf.errors import ContextFull, DecodeFailed, KylinError

SEQUENCES = 24


class FakeContext:
    """A unified KV cache: each cell has a position, a token and the sequences that share it."""

    def __init__(self, length: int = 64, batch_size: int = 16, cuttable: bool = True) -> None:
        self.length, self.batch_size, self.cuttable = length, batch_size, cuttable
        self.sequences = SEQUENCES
        self.cells: list[tuple[int, int, set[int]]] = []
        self.steps: list[int] = []
        self.threads, self.saving = 3, "measuring"
        self.fail = False
        self.during: Callable[[], None] | None = None
        """Called once, in the middle of the next decode."""

    def new_batch(self) -> Batch:
        return Batch(self.batch_size, self.sequences)

    def holds(self, sequence: int) -> list[int]:
        return [token for _, token, owners in sorted(self.cells, key=lambda c: c[0]) if sequence in owners]

    def decode(self, batch: Batch, interrupted: Callable[[], bool] | None = None) -> bool:
        if self.fail:
            raise DecodeFailed(-3)
        struct, added = batch.as_struct(), []
        next_position = {sequence: len(self.holds(sequence)) for sequence in range(self.sequences)}
        for index in range(struct.n_tokens):
            owners = {struct.seq_id[index][k] for k in range(struct.n_seq_id[index])}
            for sequence in owners:
                assert struct.pos[index] == next_position[sequence], "positions must be consecutive"
                next_position[sequence] += 1
            added.append((struct.pos[index], struct.token[index], owners))
        if len(self.cells) + len(added) > self.length:
            raise ContextFull(struct.n_tokens, self.length)
        if self.during:
            during, self.during = self.during, None
            during()
            if interrupted and interrupted():
                return False
        self.cells += added
        self.steps.append(struct.n_tokens)
        return True

    def truncate(self, sequence: int, length: int) -> bool:
        if length and not self.cuttable:
            return False
        for position, _, owners in self.cells:
            if position >= length:
                owners.discard(sequence)
        self.cells = [cell for cell in self.cells if cell[2]]
        return True

    def share(self, source: int, target: int, length: int) -> None:
        assert self.cuttable or length == len(self.holds(source)), (
            "a memory that cannot be cut is copied whole"
        )
        for position, _, owners in self.cells:
            if source in owners and position < length:
                owners.add(target)

    def save(self, sequence: int) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
        return np.array(self.holds(sequence), np.int32).view(np.uint8)

    def state_size(self, sequence: int) -> int:
        return self.save(sequence).size

    def restore(self, sequence: int, state: np.ndarray[tuple[int], np.dtype[np.uint8]]) -> bool:
        tokens = state.view(np.int32).tolist()
        if len(self.cells) + len(tokens) > self.length:
            return False
        self.cells += [(position, token, {sequence}) for position, token in enumerate(tokens)]
        return True


@dataclass(eq=False)
class Echo:
    """A task that draws ``length`` tokens counting up from 1000, and checks the cache at each."""

    id: int
    prompt: Sequence[int]
    length: int = 3
    priority: Priority = Priority.INTERACTIVE
    paused: bool = False
    cancelled: bool = False
    guesses: int = 0
    cached: list[int] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    drawn: list[int] = field(default_factory=list)
    ended: list[tuple[str, KylinError | None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tokens = list(self.prompt)

    @property
    def room(self) -> int:
        return self.length - len(self.drawn)

    def queued(self, position: int) -> None:
        self.places.append(position)

    def started(self, cached: int) -> None:
        self.cached.append(cached)

    def logits_ready(self, context: FakeContext, slot: Slot, index: int) -> bool:
        assert not self.ended, "a task that has ended is asked nothing"
        expected = [*self.prompt, *self.drawn]
        assert slot.tokens == expected, "the slot knows of no guesses that were not drawn"
        assert context.holds(slot.sequence)[: len(expected)] == expected
        self.drawn.append(1000 + len(self.drawn))
        if len(self.drawn) == self.length:
            self.finish("stop")
            return True
        self.tokens.append(self.drawn[-1])
        return False

    def guess(self, limit: int) -> Sequence[int]:
        """Guess what comes, wrongly at every third token."""
        if not self.guesses:
            return ()
        coming = range(1000 + len(self.drawn), 1000 + self.length)
        return [token if token % 3 else 7 for token in coming][: min(limit, self.guesses, self.room - 1)]

    def finish(self, reason: str, failure: KylinError | None = None) -> None:
        self.ended.append((reason, failure))
