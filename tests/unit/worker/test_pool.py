"""Which workers the pool starts, hands out and stops, with workers that are only pretended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from kylin_gguf import config, pool
from kylin_gguf.engine.memory import ProcessMemory
from kylin_gguf.engine.process import Listeners
from kylin_gguf.errors import KylinError, LoadFailed, RestartDelayed, WorkerDied
from kylin_gguf.pool import EnginePool
from kylin_gguf.records import InstalledModel, Placement, Speculation

TOY = InstalledModel("toy", Path("/models/toy.gguf"), 1, False)


class Pool(EnginePool):
    """Places every model without looking at the machine."""

    async def plan(self, model: InstalledModel, options: Mapping[str, Any]) -> Placement:
        return Placement(0, 128, 1)

    async def _make_room(self, model: InstalledModel) -> None:
        return


class FakeEngine:
    load_s, pid, placement = 0.1, 42, Placement(0, 128, 1)

    def __init__(self, model: InstalledModel, on_exit: Callable[[Any], None]) -> None:
        self.model, self._on_exit = model, on_exit
        self.busy = False
        self.may_stop = asyncio.Event()
        self.may_stop.set()

    speculation = Speculation()
    buffers: ClassVar = {}

    def memory(self) -> ProcessMemory:
        return ProcessMemory(3, 2, 1)

    async def stop(self) -> None:
        await self.may_stop.wait()
        self._on_exit(self)


class Starts:
    """In place of ``EngineProcess``: fails with ``errors``, one a start, then works."""

    def __init__(self) -> None:
        self.count = 0
        self.errors: list[KylinError] = []

    async def start(
        self, model: InstalledModel, _: Placement, __: object, listeners: Listeners
    ) -> FakeEngine:
        self.count += 1
        await asyncio.sleep(0)
        if self.errors:
            raise self.errors.pop(0)
        return FakeEngine(model, listeners.ended)


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> Starts:
    made = Starts()
    monkeypatch.setattr(pool, "EngineProcess", made)
    return made


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(pool, "time", made)
    return made


@pytest.fixture
def engines(starts: Starts, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Pool:
    monkeypatch.setattr(pool, "_SWEEP_SECONDS", 0.001)
    return Pool(config.load({"idle_unload_s": 300}, {}))


async def test_a_model_that_keeps_dying_is_not_started_in_a_hot_loop(
    engines: Pool, starts: Starts, clock: Clock
) -> None:
    starts.errors = [WorkerDied("toy", "SIGABRT", "boom")] * 2
    answers = await asyncio.gather(*(engines.acquire(TOY) for _ in range(5)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [WorkerDied] + [RestartDelayed] * 4
    assert starts.count == 1, "those who waited tried again at once"
    clock.now += 1
    with pytest.raises(WorkerDied):
        await engines.acquire(TOY)
    clock.now += 1
    with pytest.raises(RestartDelayed) as caught:
        await engines.acquire(TOY)
    assert (caught.value.failures, caught.value.retry_s, starts.count) == (2, 1, 2)
    clock.now += 1
    await engines.acquire(TOY)
    await engines.unload(TOY)
    starts.errors = [WorkerDied("toy", "SIGABRT")]
    with pytest.raises(WorkerDied):
        await engines.acquire(TOY)
    with pytest.raises(RestartDelayed) as caught:
        await engines.acquire(TOY)
    assert caught.value.failures == 1, "a success did not reset the count"
    await engines.close()


async def test_a_model_that_is_refused_may_be_tried_at_once(engines: Pool, starts: Starts) -> None:
    starts.errors = [LoadFailed("toy", "no room")]
    with pytest.raises(LoadFailed):
        await engines.acquire(TOY)
    await engines.acquire(TOY)
    await engines.close()


async def test_nobody_is_handed_a_worker_that_is_about_to_end(engines: Pool, starts: Starts) -> None:
    first = await engines.acquire(TOY)
    first.may_stop.clear()
    unloading = asyncio.ensure_future(engines.unload(TOY))
    await asyncio.sleep(0)
    acquiring = asyncio.ensure_future(engines.acquire(TOY))
    await asyncio.sleep(0)
    assert not acquiring.done()
    first.may_stop.set()
    await unloading
    assert await acquiring is not first
    assert starts.count == 2
    await engines.close()


async def test_what_is_idle_for_long_enough_is_unloaded_and_what_is_busy_is_not(
    engines: Pool, clock: Clock
) -> None:
    engine = await engines.acquire(TOY)
    engine.busy = True
    clock.now += 1000
    while engines._used[TOY.path] < clock.now:  # until a sweep has found it at work
        assert engines.loaded(), "it was unloaded at work"
        await asyncio.sleep(0.001)
    engine.busy = False
    clock.now += 300
    await asyncio.sleep(0.05)
    assert engines.loaded(), "idleness counts from the end of work"
    clock.now += 1
    while engines.loaded():
        await asyncio.sleep(0.001)
    await engines.close()


async def test_the_memory_is_told_apart(engines: Pool) -> None:
    await engines.acquire(TOY)
    (loaded,) = engines.loaded()
    assert (loaded.memory, loaded.memory_private, loaded.memory_mapped) == (3, 2, 1)
    await engines.close()
