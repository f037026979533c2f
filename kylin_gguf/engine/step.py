"""What one decode step computes: the next tokens of streams, guesses at what follows, pieces of prompts."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from kylin_gguf.engine.apart import PAUSE_S, apart
from kylin_gguf.engine.context import Context
from kylin_gguf.engine.pace import Pace
from kylin_gguf.engine.prefix_cache import Slot
from kylin_gguf.engine.tasks.task import Priority, Task

SMALLEST_SHARE = 16
"""Prompt tokens below which dividing a step among prompts gains nobody anything."""

_AS_THEY_ARE = contextlib.nullcontext()


@dataclass(eq=False)
class Running:
    """A task and the slot it has."""

    task: Task
    slot: Slot
    prefilled: bool = False

    @property
    def pending(self) -> int:
        """How many of the task's tokens have not gone through the model."""
        return len(self.task.tokens) - len(self.slot.tokens)

    @property
    def interactive(self) -> bool:
        """Whether somebody waits for it."""
        return self.task.priority == Priority.INTERACTIVE


class Share(NamedTuple):
    """What one task has of a step."""

    run: Running
    tokens: int
    """How many of its pending ones."""
    output: int | None
    """Index of the logits that follow them; None while a prompt goes on."""
    guesses: Sequence[int] = ()
    """What may come after them; the logits behind each have the next indices."""


class Step:
    """One step, filled and run again and again."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._batch = context.new_batch()
        self._pace = Pace()
        self._ended = 0.0
        self.seconds = 0.0
        """What the last decode took."""
        self.shares: list[Share] = []
        self._streams = 0
        """How many of them go on by a token."""
        self.guessing = False
        """Whether the step checks guesses."""

    def fill(self, running: Sequence[Running], *, guess: bool) -> bool:
        """Take next tokens, then prompts; False if there is nothing to do.

        With ``guess``, a stream that is alone may have more than one token checked. In company the others'
        tokens would wait for the guesses.
        """
        self._batch.clear()
        self.shares, self.guessing = [], False
        prompts = []
        for run in running:
            if run.task.paused:
                continue
            if run.pending == 1:
                self.shares.append(self._share(run, 1))
            else:
                prompts.append(run)
        self._streams = len(self.shares)
        if prompts:
            self._take_prompts(prompts)
        elif guess and len(self.shares) == 1:
            self._take_guesses(self.shares[0].run)
        return bool(self.shares)

    def _take_prompts(self, prompts: list[Running]) -> None:
        paced = any(share.run.interactive for share in self.shares)
        budget = room = self._batch.room
        if paced:
            budget = self._pace.chunk(self._streams, room, time.perf_counter() - self._ended)
        waited_for = [run for run in prompts if run.interactive]
        self.shares += [self._share(run, count) for run, count in _divide(budget, waited_for or prompts)]

    def _take_guesses(self, run: Running) -> None:
        room = min(
            self._batch.room,
            self._batch.max_outputs - self._batch.outputs,
            self._context.length - len(run.task.tokens) - 1,
        )
        guesses = run.task.guess(room) if room > 0 else ()
        if guesses:
            for position, token in enumerate(guesses, len(run.task.tokens)):
                self._batch.add(token, position, run.slot.sequence, logits=True)
            self.shares, self.guessing = [Share(run, 1, 0, guesses)], True

    def _share(self, run: Running, count: int) -> Share:
        """Add the next ``count`` tokens of ``run``."""
        start = len(run.slot.tokens)
        last = start + count - 1
        if count > 1:
            self._batch.extend(run.task.tokens[start:last], start, run.slot.sequence)
        wanted = count == run.pending
        index = self._batch.add(run.task.tokens[last], last, run.slot.sequence, logits=wanted)
        return Share(run, count, index if wanted else None)

    def run(self, interrupted: Callable[[], bool] | None) -> bool:
        """Decode, and note in the slots what they now hold, guesses excepted; False if it was interrupted.

        Raises:
            ContextFull, DecodeFailed: as ``Context.decode`` does; the slots are as before.
        """
        began = time.perf_counter()
        with apart() if began - self._ended > PAUSE_S else _AS_THEY_ARE:
            if not self._context.decode(self._batch, interrupted):
                return False
        self._ended = time.perf_counter()
        self.seconds = self._ended - began
        if not self.guessing:
            self._pace.observe(self._streams, self._batch.size - self._streams, self.seconds)
        for share in self.shares:
            computed = share.run.slot.tokens
            done = len(computed)
            computed += share.run.task.tokens[done : done + share.tokens]
        return True


def _divide(budget: int, runs: list[Running]) -> list[tuple[Running, int]]:
    """Share ``budget`` prompt tokens evenly, so that a short prompt need not wait for a long one."""
    shares = []
    runs = sorted(runs, key=lambda run: run.pending)
    for index, run in enumerate(runs):
        even = max(budget // (len(runs) - index), SMALLEST_SHARE)
        count = min(run.pending, even, budget)
        if count:
            shares.append((run, count))
            budget -= count
    return shares
