"""Continuous batching: one decode loop over all running requests, prefill in chunks between decode steps."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from kylin_gguf.engine.context import Batch, Context
from kylin_gguf.engine.prefix_cache import PrefixCache, Slot
from kylin_gguf.engine.tasks.task import Task
from kylin_gguf.errors import Busy, ContextFull, KylinError
from kylin_gguf.frames import EndReason

PREFILL_BESIDE_DECODE = 64
"""Prompt tokens taken into a step in which other requests stream: what keeps their pace."""

MAX_WAITING = 64


@dataclass
class Running:
    """A task and the slot it has."""

    task: Task
    slot: Slot

    @property
    def prefilling(self) -> bool:
        """Whether some of the prompt is still to be computed."""
        return self.task.next_token is None and len(self.slot.tokens) < len(self.task.prompt)


class Scheduler:
    """Owns the KV cache's slots and decides what each decode step computes."""

    def __init__(self, context: Context, sequences: int) -> None:
        self._context = context
        self._cache = PrefixCache(context, sequences)
        self._batch = Batch(context.batch_size)
        self._waiting: deque[Task] = deque()
        self._running: list[Running] = []

    @property
    def has_work(self) -> bool:
        """Whether a step would do something now, without waiting for a client or a message."""
        if self._waiting and (self._cache.has_free or any(task.cancelled for task in self._waiting)):
            return True
        return any(run.task.cancelled or not run.task.paused for run in self._running)

    def submit(self, task: Task) -> None:
        """Queue ``task``.

        Raises:
            ContextFull: its prompt can never fit.
            Busy: the queue is full.
        """
        if len(task.prompt) >= self._context.length:
            raise ContextFull(len(task.prompt), self._context.length)
        if len(self._waiting) >= MAX_WAITING:
            raise Busy("waiting requests", MAX_WAITING)
        self._waiting.append(task)

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
        self._advance()
        for run, index in outputs:
            self._hand_over(run, index)
        # A scoring decodes for itself, which overwrites the logits: only after everyone has drawn.
        for run, _ in outputs:
            if run in self._running:
                self._settle(run)

    def _reap(self) -> None:
        for task in [task for task in self._waiting if task.cancelled]:
            self._waiting.remove(task)
            task.finish("cancelled")
        for run in [run for run in self._running if run.task.cancelled]:
            self._end(run, "cancelled")

    def _admit(self) -> None:
        while self._waiting:
            found = self._cache.acquire(self._waiting[0].prompt)
            if found is None:
                return
            slot, cached = found
            task = self._waiting.popleft()
            task.started(cached)
            self._running.append(Running(task, slot))

    def _fill_batch(self) -> list[tuple[Running, int]]:
        """Put next tokens, then prompt chunks, into the batch; return who awaits which output."""
        self._batch.clear()
        self._planned: list[tuple[Running, list[int]]] = []
        outputs = []
        ready = [run for run in self._running if not run.task.paused]
        for run in ready:
            if run.task.next_token is not None:
                outputs.append((run, self._plan(run, [run.task.next_token], last=True)))
        budget = min(self._batch.room, PREFILL_BESIDE_DECODE) if outputs else self._batch.room
        for run in ready:
            if run.prefilling and budget:
                done = len(run.slot.tokens)
                chunk = run.task.prompt[done : done + budget]
                last = done + len(chunk) == len(run.task.prompt)
                index = self._plan(run, chunk, last=last)
                budget -= len(chunk)
                if last:
                    outputs.append((run, index))
        return outputs

    def _plan(self, run: Running, tokens: list[int], *, last: bool) -> int:
        start, sequence = len(run.slot.tokens), [run.slot.sequence]
        index = -1
        for offset, token in enumerate(tokens):
            wants = last and offset == len(tokens) - 1
            index = self._batch.add(token, start + offset, sequence, logits=wants)
        self._planned.append((run, tokens))
        return index

    def _decode(self) -> bool:
        """Decode the batch, making room if the KV cache is full; False if the step must be planned anew."""
        while True:
            try:
                self._context.decode(self._batch)
                return True
            except ContextFull:
                if self._cache.evict():
                    continue
                # Nothing idle is left: the longest request has had the most, so it gives way.
                longest = max((run for run, _ in self._planned), key=lambda run: len(run.slot.tokens))
                self._give_way(longest)
                return False
            except KylinError as error:
                for run, _ in self._planned:
                    self._end(run, "error", error, forget=True)
                return False

    def _give_way(self, run: Running) -> None:
        if run.prefilling:
            self._end(run, "error", ContextFull(len(run.task.prompt), self._context.length), forget=True)
        else:
            self._end(run, "length", forget=True)

    def _advance(self) -> None:
        for run, tokens in self._planned:
            run.slot.tokens.extend(tokens)

    def _hand_over(self, run: Running, index: int) -> None:
        try:
            done = run.task.logits_ready(self._context, run.slot, index)
        except KylinError as error:
            self._end(run, "error", error)
            return
        if done:
            self._leave(run)

    def _settle(self, run: Running) -> None:
        try:
            done = run.task.settle(self._context, run.slot)
        except ContextFull as error:
            if self._cache.evict():
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
        self._cache.release(run.slot)
