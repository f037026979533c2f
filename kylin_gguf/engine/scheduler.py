"""Continuous batching: one decode loop over all running requests, prefill in chunks between decode steps."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict

from kylin_gguf.engine.context import Context
from kylin_gguf.engine.prefix_cache import PrefixCache
from kylin_gguf.engine.radix_tree import common_prefix
from kylin_gguf.engine.step import Running, Share, Step
from kylin_gguf.engine.tally import Tally
from kylin_gguf.engine.tasks.task import Priority, Task
from kylin_gguf.engine.waiting import WaitingLine, cells
from kylin_gguf.errors import ContextFull, KylinError
from kylin_gguf.frames import EndReason
from kylin_gguf.records import Activity

QUIET_S = 0.1
"""How long nobody may have wanted anything before the cache is tidied. Who reads an answer takes longer to go
on; a program that goes on at once need not wait."""

WORTH_WAITING = 32
"""Prompt tokens that another request is about to compute and that are worth waiting for."""


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
        self._step = Step(context)
        self._waiting = WaitingLine()
        self._tally = Tally()
        self._running: list[Running] = []
        self._cancelled = False
        """Whether a request was cancelled that is still here."""
        self._crowded = False
        """Whether cells ran out since a request last ended: the count of ``_fits`` was too hopeful then."""
        self._left = 0.0
        """When a request last ended."""

    @property
    def has_work(self) -> bool:
        """Whether a step would do something now, without waiting for a client or a message."""
        return any(_ready(run.task) for run in self._running) or any(map(_ready, self._waiting))

    def activity(self) -> Activity:
        """Return what is going on, and what has been done."""
        return Activity(
            time=time.monotonic(),
            running=len(self._running),
            waiting=len(self._waiting),
            cells=self._context.length,
            cells_used=self._cache.cells,
            parked=self._cache.parked,
            threads=self._context.threads,
            saving=self._context.saving,
            **asdict(self._tally),
        )

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
                task.cancelled = self._cancelled = True

    def step(self) -> None:
        """Run one decode over whatever is ready, and hand out the results."""
        if self._cancelled:
            self._reap()
        if self._waiting:
            self._admit()
        # Wrong guesses are cut off again, and take cells until then.
        guess = self._context.cuttable and not self._crowded
        if not self._step.fill(self._running, guess=guess) or not self._decode():
            return
        self._tally.decoded(self._step.shares, self._step.seconds)
        for share in self._step.shares:
            if share.output is not None:
                self._hand_over(share)

    def rest(self) -> float | None:
        """Do what is left for idle moments; return after how many seconds to ask again, if at all."""
        if not self._cache.cluttered:
            return None
        quiet = time.monotonic() - self._left
        if quiet < QUIET_S:
            return QUIET_S - quiet
        self._cache.tidy()
        return None

    def close(self) -> None:
        """Keep on disk what was computed; requests that still run are not told."""
        for run in list(self._running):
            self._leave(run)
        self._cache.save()

    # --- who runs -----------------------------------------------------------------------------------

    def _reap(self) -> None:
        self._cancelled = False
        for task in [task for task in self._waiting if task.cancelled]:
            self._waiting.leave(task)
            task.finish("cancelled")
        for run in [run for run in self._running if run.task.cancelled]:
            self._end(run, "cancelled")

    def _admit(self) -> None:
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
        self._tally.started(cached)
        self._running.append(Running(task, slot))

    # --- the decode ---------------------------------------------------------------------------------

    def _decode(self) -> bool:
        """Decode the batch, making room if the KV cache is full; False if the step must be planned anew."""
        interrupted = self._interrupted if self._context.cuttable else None
        while True:
            try:
                return self._step.run(interrupted)
            except ContextFull:
                if self._cache.evict(cells=True):
                    continue
                if self._step.guessing:
                    self._crowded = True
                else:
                    self._give_way()
                return False
            except KylinError as error:
                for share in self._step.shares:
                    self._end(share.run, "error", error, forget=True)
                return False

    def _interrupted(self) -> bool:
        """Take in what has arrived meanwhile; return whether the batch has lost its purpose."""
        if not self._listen():
            return True
        if any(share.run.task.cancelled for share in self._step.shares):
            return True
        urgent = any(task.priority == Priority.INTERACTIVE for task in self._waiting)
        return urgent and not any(share.run.interactive for share in self._step.shares)

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

    def _hand_over(self, share: Share) -> None:
        run = share.run
        if not run.prefilled:
            run.prefilled = True
            self._cache.computed(run.slot)
        try:
            done = self._draw(share)
        except KylinError as error:
            self._end(run, "error", error)
            return
        if done:
            self._leave(run)

    def _draw(self, share: Share) -> bool:
        """Let the task draw its next token, and one more behind each guess that was right; return whether it
        is done. No guess changes a draw: it only has the logits ready that follow what was drawn."""
        run = share.run
        assert share.output is not None, "there is nothing to draw from"
        try:
            for index, guess in enumerate((*share.guesses, None), share.output):
                done = run.task.logits_ready(self._context, run.slot, index)
                self._tally.drawn()
                if done:
                    return True
                if run.task.tokens[-1] != guess:
                    break
                run.slot.tokens.append(guess)
            return False
        finally:
            if share.guesses:
                self._context.truncate(run.slot.sequence, len(run.slot.tokens))

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
        self._left = time.monotonic()
        self._cache.release(run.slot)


def _ready(task: Task) -> bool:
    return task.cancelled or not task.paused
