"""Continuous batching and the prefix cache, on a context that records instead of computing."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from kylin_gguf.engine.context import Batch
from kylin_gguf.engine.prefix_cache import PrefixCache, Slot
from kylin_gguf.engine.scheduler import PREFILL_BESIDE_DECODE, Scheduler
from kylin_gguf.errors import ContextFull, DecodeFailed, KylinError


class FakeContext:
    """Keeps, for each sequence, the tokens a real KV cache would hold, and refuses what it would refuse."""

    def __init__(self, length: int = 64, batch_size: int = 16, cuttable: bool = True) -> None:
        self.length, self.batch_size, self.cuttable = length, batch_size, cuttable
        self.cells: dict[int, list[int]] = {}
        self.steps: list[int] = []
        self.fail = False

    def decode(self, batch: Batch) -> None:
        if self.fail:
            raise DecodeFailed(-3)
        struct = batch.as_struct()
        cells = {key: list(value) for key, value in self.cells.items()}
        for index in range(struct.n_tokens):
            sequence = struct.seq_id[index][0]
            held = cells.setdefault(sequence, [])
            assert struct.pos[index] == len(held), "positions must be consecutive"
            held.append(struct.token[index])
        if sum(map(len, cells.values())) > self.length:
            raise ContextFull(struct.n_tokens, self.length)
        self.cells = cells
        self.steps.append(struct.n_tokens)

    def truncate(self, sequence: int, length: int) -> bool:
        if length and not self.cuttable:
            return False
        self.cells[sequence] = self.cells.get(sequence, [])[:length]
        return True

    def share(self, source: int, target: int, length: int) -> None:
        self.cells[target] = self.cells[source][:length]


@dataclass
class Echo:
    """A task that draws ``length`` tokens counting up from 1000."""

    id: int
    prompt: list[int]
    length: int = 3
    next_token: int | None = None
    cancelled: bool = False
    paused: bool = False
    cached: int = -1
    drawn: list[int] = field(default_factory=list)
    ended: list[tuple[str, KylinError | None]] = field(default_factory=list)

    def started(self, cached: int) -> None:
        self.cached = cached

    def logits_ready(self, context: FakeContext, slot: Slot, index: int) -> bool:
        expected = self.prompt + self.drawn
        assert context.cells[slot.sequence] == expected == slot.tokens
        self.drawn.append(1000 + len(self.drawn))
        self.next_token = self.drawn[-1]
        if len(self.drawn) == self.length:
            self.finish("stop")
            return True
        return False

    def settle(self, context: FakeContext, slot: Slot) -> bool:
        return False

    def finish(self, reason: str, failure: KylinError | None = None) -> None:
        self.ended.append((reason, failure))


def run(scheduler: Scheduler, steps: int = 200) -> None:
    for _ in range(steps):
        if not scheduler.has_work:
            return
        scheduler.step()
    raise AssertionError("the scheduler did not come to rest")


def test_requests_run_together_and_end_once() -> None:
    context = FakeContext()
    scheduler = Scheduler(context, 4)
    tasks = [Echo(i, [i] * 5) for i in range(1, 4)]
    for task in tasks:
        scheduler.submit(task)
    run(scheduler)
    assert [task.ended for task in tasks] == [[("stop", None)]] * 3
    assert max(context.steps) == 15, "three prompts of five tokens fit one batch"
    assert context.steps.count(3) == 2, "then all three decode together"


def test_long_prompt_is_prefilled_in_chunks_beside_a_stream() -> None:
    context = FakeContext(length=4096, batch_size=256)
    scheduler = Scheduler(context, 2)
    stream, long = Echo(1, [1, 2], length=50), Echo(2, list(range(600)), length=2)
    scheduler.submit(stream)
    scheduler.step()
    scheduler.submit(long)
    run(scheduler)
    assert stream.ended == long.ended == [("stop", None)]
    assert max(context.steps) == PREFILL_BESIDE_DECODE + 1, "no step stalls the stream for a whole prompt"


def test_same_beginning_is_not_computed_twice() -> None:
    context = FakeContext()
    scheduler = Scheduler(context, 2)
    first = Echo(1, [7, 8, 9, 10])
    scheduler.submit(first)
    run(scheduler)
    again, branch = Echo(2, [7, 8, 9, 10, 1000, 1001, 5]), Echo(3, [7, 8, 6])
    scheduler.submit(again)
    scheduler.submit(branch)
    run(scheduler)
    assert (again.cached, branch.cached) == (6, 2)
    assert again.ended == branch.ended == [("stop", None)]


def test_memory_that_cannot_be_cut_is_computed_again() -> None:
    context = FakeContext(cuttable=False)
    scheduler = Scheduler(context, 1)
    for task in (Echo(1, [7, 8, 9, 10]), Echo(2, [7, 8, 6])):
        scheduler.submit(task)
        run(scheduler)
    assert task.cached == 0 and task.ended == [("stop", None)]


def test_idle_prefixes_make_room_for_a_new_request() -> None:
    context = FakeContext(length=20)
    scheduler = Scheduler(context, 2)
    tasks = [Echo(i, [i * 100 + k for k in range(12)]) for i in (1, 2, 3)]
    for task in tasks:
        scheduler.submit(task)
        run(scheduler)
    assert [task.ended for task in tasks] == [[("stop", None)]] * 3


def test_when_nothing_can_be_evicted_the_longest_ends_with_length() -> None:
    context = FakeContext(length=20, batch_size=32)
    scheduler = Scheduler(context, 2)
    short, long = Echo(1, [1] * 4, length=12), Echo(2, [2] * 8, length=12)
    scheduler.submit(short)
    scheduler.submit(long)
    run(scheduler)
    assert long.ended == [("length", None)]
    assert short.ended == [("stop", None)]


def test_cancel_takes_effect_before_the_next_step_running_or_waiting() -> None:
    scheduler = Scheduler(FakeContext(), 1)
    running, waiting = Echo(1, [1], length=50), Echo(2, [2], length=50)
    scheduler.submit(running)
    scheduler.submit(waiting)
    scheduler.step()
    drawn = len(running.drawn)
    scheduler.cancel(1)
    scheduler.cancel(2)
    scheduler.cancel(3)  # never existed: nothing happens
    run(scheduler)
    assert running.ended == waiting.ended == [("cancelled", None)]
    assert len(running.drawn) == drawn and not waiting.drawn


def test_a_paused_stream_holds_up_nobody_and_burns_no_steps() -> None:
    scheduler = Scheduler(FakeContext(), 2)
    slow, quick = Echo(1, [1], paused=True), Echo(2, [2])
    scheduler.submit(slow)
    scheduler.submit(quick)
    run(scheduler)
    assert quick.ended == [("stop", None)] and not slow.ended
    assert not scheduler.has_work
    slow.paused = False
    run(scheduler)
    assert slow.ended == [("stop", None)]


def test_a_failed_decode_ends_its_requests_and_the_next_one_works() -> None:
    context = FakeContext()
    scheduler = Scheduler(context, 2)
    task = Echo(1, [1, 2, 3])
    scheduler.submit(task)
    context.fail = True
    run(scheduler)
    ((reason, error),) = task.ended
    assert reason == "error" and isinstance(error, DecodeFailed)
    context.fail = False
    after = Echo(2, [1, 2, 3])
    scheduler.submit(after)
    run(scheduler)
    assert after.cached == 0 and after.ended == [("stop", None)]


def test_a_prompt_that_can_never_fit_is_refused_with_the_numbers() -> None:
    with pytest.raises(ContextFull) as caught:
        Scheduler(FakeContext(length=8), 1).submit(Echo(1, [0] * 9))
    assert (caught.value.tokens, caught.value.limit) == (9, 8)


def test_a_busy_slots_prefix_is_shared_not_taken() -> None:
    context = FakeContext()
    cache = PrefixCache(context, 2)
    first, _ = cache.acquire([1, 2, 3, 4]) or pytest.fail("no slot")
    context.cells[first.sequence] = [1, 2, 3, 4]
    first.tokens.extend([1, 2, 3, 4])
    second, cached = cache.acquire([1, 2, 3, 9]) or pytest.fail("no slot")
    assert second is not first and cached == 3
    assert context.cells[second.sequence] == [1, 2, 3]
    assert cache.acquire([5]) is None
