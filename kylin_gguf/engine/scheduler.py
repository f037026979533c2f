"""Continuous batching: one decode loop over all running requests, prefill in chunks between decode steps."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from kylin_gguf.engine.context import Context
from kylin_gguf.engine.pace import Pace
from kylin_gguf.engine.prefix_cache import PrefixCache, Slot
from kylin_gguf.engine.radix_tree import common_prefix
from kylin_gguf.engine.tasks.task import Priority, Task
from kylin_gguf.engine.waiting import WaitingLine, cells
from kylin_gguf.errors import ContextFull, KylinError
from kylin_gguf.frames import EndReason

WORTH_WAITING = 32
"""Prompt tokens that another request is about to compute and that are worth waiting for."""

SMALLEST_SHARE = 16
"""Prompt tokens below which dividing a step among prompts gains nobody anything."""


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


class Scheduler:
    """Decides what each decode step computes, and for whom."""

    def __init__(
        self, context: Context, cache: PrefixCache, sequences: int, listen: Callable[[], bool]
    ) -> None:
        """Schedule at most ``sequences`` requests at a time.

        ``listen`` is called during long decodes: it takes in messages (and calls ``submit`` and ``cancel``)
        and returns whether to go on decoding.
        """
        self._context, self._cache, self._listen = context, cache, listen
        self._sequences = sequences
        self._batch = context.new_batch()
        self._pace = Pace()
        self._waiting = WaitingLine()
        self._running: list[Running] = []
        self._planned: list[tuple[Running, int]] = []
        self._streams = 0
        self._crowded = False
        """Whether cells ran out since a request last ended: the count of ``_fits`` was too hopeful then."""

    @property
    def has_work(self) -> bool:
        """Whether a step would do something now, without waiting for a client or a message."""
        return any(_ready(run.task) for run in self._running) or any(map(_ready, self._waiting))

    def submit(self, task: Task) -> None:
        """Queue ``task``.

        Raises:
            ContextFull: its prompt can never fit.
            Busy: the queue is full.
        """
        if len(task.tokens) >= self._context.length:
            raise ContextFull(len(task.tokens), self._context.length)
        self._waiting.join(task)

    def cancel(self, request_id: int) -> None:
        """End a request at the next step; unknown ids have ended already."""
        for task in (*self._waiting, *(run.task for run in self._running)):
            if task.id == request_id:
                task.cancelled = True

    def step(self) -> None:
        """Run one decode over whatever is ready, and hand out the results."""
        self._reap()
        self._admit()
        outputs = self._fill_batch()
        if not self._batch.size or not self._decode():
            return
        for run, count in self._planned:
            done = len(run.slot.tokens)
            run.slot.tokens += run.task.tokens[done : done + count]
        for run, index in outputs:
            self._hand_over(run, index)
        # Decodes of a task's own overwrite the logits: only after everyone has used them.
        for run, _ in outputs:
            if run in self._running and not run.pending:
                self._settle(run)

    def close(self) -> None:
        """Keep on disk what was computed; requests that still run are not told."""
        for run in list(self._running):
            self._leave(run)
        self._cache.save()

    # --- who runs -----------------------------------------------------------------------------------

    def _reap(self) -> None:
        if self._waiting:
            for task in [task for task in self._waiting if task.cancelled]:
                self._waiting.leave(task)
                task.finish("cancelled")
        for run in [run for run in self._running if run.task.cancelled]:
            self._end(run, "cancelled")

    def _admit(self) -> None:
        if not self._waiting:
            return
        for task in self._waiting:
            if task.paused or self._awaits_another(task):
                continue
            while not self._fits(task):
                if not self._displace_for(task):
                    break
            else:
                self._start(task)
                continue
            break
        self._waiting.tell()

    def _fits(self, task: Task) -> bool:
        if not self._running:
            return True
        if self._crowded or len(self._running) == self._sequences:
            return False
        background = sum(not run.interactive for run in self._running)
        if task.priority == Priority.BACKGROUND and background >= max(self._sequences - 1, 1):
            return False  # somebody may come who waits
        tasks = [*(run.task for run in self._running), task]
        return cells(tasks, shared=self._context.cuttable) <= self._context.length

    def _displace_for(self, task: Task) -> bool:
        """Send somebody who matters less than ``task`` back into the line; False if there is nobody."""
        for run in reversed(self._running):
            if run.task.paused or run.task.priority > task.priority:
                self._displace(run)
                return True
        return False

    def _displace(self, run: Running) -> None:
        self._running.remove(run)
        self._cache.release(run.slot)
        self._waiting.rejoin(run.task)

    def _awaits_another(self, task: Task) -> bool:
        """Return whether a running request is about to compute much of what ``task`` begins with."""
        if not self._context.cuttable:
            return False
        for run in self._running:
            if run.prefilled or run.task.paused:
                continue
            shared = common_prefix(run.task.tokens, task.tokens)
            if shared - self._cache.known(task.tokens) >= WORTH_WAITING:
                if len(run.slot.tokens) < shared:
                    return True
                self._cache.computed(run.slot)  # not its end yet, but all that can be shared
        return False

    def _start(self, task: Task) -> None:
        self._waiting.leave(task)
        slot, cached = self._cache.acquire(task.tokens)
        task.started(cached)
        self._running.append(Running(task, slot))

    # --- what a step computes -----------------------------------------------------------------------

    def _fill_batch(self) -> list[tuple[Running, int]]:
        """Put next tokens, then prompt chunks, into the batch; return who awaits which output."""
        self._batch.clear()
        self._planned = []
        outputs, prompts = [], []
        for run in self._running:
            if run.task.paused:
                continue
            if run.pending == 1:
                outputs.append((run, self._plan(run, 1)))
            else:
                prompts.append(run)
        self._streams = len(outputs)
        if prompts:
            outputs += self._fill_prompts(prompts, paced=any(run.interactive for run, _ in outputs))
        return outputs

    def _fill_prompts(self, prompts: list[Running], *, paced: bool) -> list[tuple[Running, int]]:
        budget = self._pace.chunk(self._batch.room) if paced else self._batch.room
        waited_for = [run for run in prompts if run.interactive]
        outputs = []
        for run, count in _divide(budget, waited_for or prompts):
            index = self._plan(run, count)
            if count == run.pending:
                outputs.append((run, index))
        return outputs

    def _plan(self, run: Running, count: int) -> int:
        """Add the next ``count`` tokens of ``run``; return the index of the last."""
        start = len(run.slot.tokens)
        last = start + count - 1
        if count > 1:
            self._batch.extend(run.task.tokens[start:last], start, run.slot.sequence)
        self._planned.append((run, count))
        logits = count == run.pending
        return self._batch.add(run.task.tokens[last], last, (run.slot.sequence,), logits=logits)

    def _decode(self) -> bool:
        """Decode the batch, making room if the KV cache is full; False if the step must be planned anew."""
        interrupted = self._interrupted if self._context.cuttable else None
        while True:
            began = time.perf_counter()
            try:
                if not self._context.decode(self._batch, interrupted):
                    return False
                prompt_tokens = self._batch.size - self._streams
                self._pace.observe(self._streams, prompt_tokens, time.perf_counter() - began)
                return True
            except ContextFull:
                if self._cache.evict(cells=True):
                    continue
                self._give_way()
                return False
            except KylinError as error:
                for run, _ in self._planned:
                    self._end(run, "error", error, forget=True)
                return False

    def _interrupted(self) -> bool:
        """Take in what has arrived meanwhile; return whether the batch has lost its purpose."""
        if not self._listen():
            return True
        if any(run.task.cancelled for run, _ in self._planned):
            return True
        urgent = any(task.priority == Priority.INTERACTIVE for task in self._waiting)
        return urgent and not any(run.interactive for run, _ in self._planned)

    def _give_way(self) -> None:
        """Free cells when every one belongs to a running request: whoever matters least waits, and goes on
        later where it was; the only one left has had the whole context."""
        self._crowded = True
        if len(self._running) > 1:
            self._displace(max(reversed(self._running), key=lambda run: (run.task.paused, run.task.priority)))
        elif self._running[0].pending > 1:
            run = self._running[0]
            self._end(run, "error", ContextFull(len(run.task.tokens), self._context.length))
        else:
            self._end(self._running[0], "length")

    # --- what comes of it ---------------------------------------------------------------------------

    def _hand_over(self, run: Running, index: int) -> None:
        if not run.prefilled:
            run.prefilled = True
            self._cache.computed(run.slot)
        try:
            done = run.task.logits_ready(self._context, run.slot, index)
        except KylinError as error:
            self._end(run, "error", error)
            return
        if done:
            self._leave(run)

    def _settle(self, run: Running) -> None:
        try:
            with self._cache.lanes(run.task.lanes) as lanes:
                done = run.task.settle(self._context, run.slot, lanes)
        except ContextFull as error:
            if self._cache.evict(cells=True):
                self._settle(run)
                return
            self._end(run, "error", error)
            return
        except KylinError as error:
            self._end(run, "error", error)
            return
        if done:
            self._leave(run)

    def _end(
        self, run: Running, reason: EndReason, failure: KylinError | None = None, *, forget: bool = False
    ) -> None:
        run.task.finish(reason, failure)
        if forget:  # after a failed decode nobody knows what the slot holds
            self._cache.forget(run.slot)
        self._leave(run)

    def _leave(self, run: Running) -> None:
        self._running.remove(run)
        self._crowded = False
        if run.task.standing and run.prefilled:
            self._cache.keep(run.slot)
        self._cache.release(run.slot)


def _ready(task: Task) -> bool:
    return task.cancelled or not task.paused


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
