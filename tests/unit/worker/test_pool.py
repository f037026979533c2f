"""Which workers the pool starts, hands out and stops, with workers that are only pretended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

from kylin_gguf import config, loading, pool
from kylin_gguf.engine.memory import ProcessMemory
from kylin_gguf.engine.process import Listeners
from kylin_gguf.errors import KylinError, LoadFailed, OutOfMemory, RestartDelayed, WorkerDied
from kylin_gguf.loading import Loader
from kylin_gguf.offload.heat import Heat
from kylin_gguf.offload.replan import EVERY_S, IDLE_S, Reason
from kylin_gguf.pool import EnginePool
from kylin_gguf.records import Activity, InstalledModel, Placement, Power, Settings, Share, Speculation

TOY = InstalledModel("toy", Path("/models/toy.gguf"), 1, False)


PLACEMENT = Placement(0, 128, 1)


class StubLoader(Loader):
    """Places every model without looking at the machine."""

    ladder = (PLACEMENT,)

    better = False
    """Whether the machine offers a better placement than any that is loaded."""

    async def placements(self, model: InstalledModel) -> tuple[str, list[Placement]]:
        return "toy", list(self.ladder)

    async def misplaced(self, engine: Any, reason: Reason) -> bool:
        self.reasons.append(reason)
        return self.better

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.reasons: list[Reason] = []


class Pool(EnginePool):
    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.loader = self._loader = StubLoader(settings)

    async def _make_room(self, model: InstalledModel) -> None:
        return


class FakeEngine:
    load_s, pid = 0.1, 42
    failure: WorkerDied | None = None

    def __init__(self, model: InstalledModel, placement: Placement, on_exit: Callable[[Any], None]) -> None:
        self.model, self.placement, self._on_exit = model, placement, on_exit
        self.busy = False
        self.may_stop = asyncio.Event()
        self.may_stop.set()
        self.stepped_down = ""
        self.thrift = [(False, False)]
        self.free = {share.device: 1 << 30 for share in placement.shares}

    def heed_power(self, save: bool, on_battery: bool) -> None:
        self.thrift.append((save, on_battery))

    async def activity(self) -> Activity:
        return Activity(device_free=self.free)

    speculation = Speculation()
    buffers: ClassVar = {}

    def memory(self) -> ProcessMemory:
        return ProcessMemory(3, 2, 1)

    def die(self, error: WorkerDied) -> WorkerDied:
        self.failure = error
        self._on_exit(self)
        return error

    async def stop(self) -> None:
        await self.may_stop.wait()
        self._on_exit(self)


class Starts:
    """In place of ``EngineProcess``: fails with ``errors``, one a start, then works."""

    def __init__(self) -> None:
        self.count = 0
        self.errors: list[KylinError] = []
        self.placements: list[Placement] = []

    async def start(
        self, model: InstalledModel, placement: Placement, _: object, listeners: Listeners
    ) -> FakeEngine:
        self.count += 1
        self.placements.append(placement)
        await asyncio.sleep(0)
        if self.errors:
            raise self.errors.pop(0)
        return FakeEngine(model, placement, listeners.ended)


class Hot(Heat):
    def __init__(self) -> None:
        pass

    def hot(self) -> bool:
        return True


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> Starts:
    made = Starts()
    monkeypatch.setattr(loading, "EngineProcess", made)
    return made


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(pool, "time", made)
    return made


@pytest.fixture
def engines(starts: Starts, clock: Clock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Pool:
    monkeypatch.setattr(pool, "_SWEEP_SECONDS", 0.001)
    monkeypatch.setattr(pool, "memory_pressure", lambda: 0.0)
    return Pool(config.load({"idle_unload_s": 300, "cache_dir": tmp_path}, {}))


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


async def test_workers_are_told_when_energy_is_to_be_saved(engines: Pool, starts: Starts) -> None:
    first = await engines.acquire(TOY)
    assert first.thrift == [(False, False)], "as a worker begins"
    engines.heed_power(Power(on_battery=True))
    engines.heed_power(Power(on_battery=True, profile="balanced"))
    assert first.thrift[1:] == [(True, True)], "once"
    await engines.unload(TOY)
    second = await engines.acquire(TOY)
    assert second.thrift[1:] == [(True, True)]
    engines.heed_power(Power(on_battery=False))
    assert second.thrift[2:] == [(False, False)]
    await engines.close()


async def test_a_processor_that_is_too_warm_saves_energy(engines: Pool, starts: Starts) -> None:
    engine = await engines.acquire(TOY)
    engines._heat = Hot()
    async with asyncio.timeout(20):
        while len(engine.thrift) < 2:
            await asyncio.sleep(0.001)
    assert engine.thrift[1:] == [(True, False)] and engines.power.hot
    engines.heed_power(Power(on_battery=False, profile="balanced"))
    assert engines.power.hot, "that the plug is in makes nothing cooler"
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
    while engines._used[TOY.reference] < clock.now:  # until a sweep has found it at work
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


async def test_while_programs_wait_for_memory_unused_models_go_early(
    engines: Pool, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "memory_pressure", lambda: 50.0)
    await engines.acquire(TOY)
    clock.now += 30
    await asyncio.sleep(0.05)
    assert engines.loaded()
    clock.now += 1
    while engines.loaded():
        await asyncio.sleep(0.001)
    await engines.close()


async def test_the_memory_is_told_apart(engines: Pool) -> None:
    await engines.acquire(TOY)
    (loaded,) = engines.loaded()
    assert (loaded.memory, loaded.memory_private, loaded.memory_mapped) == (3, 2, 1)
    await engines.close()


# --- stepping down ------------------------------------------------------------------------------------

ON_GPU = Placement(25, 128, 1, layers=24, shares=(Share("Vulkan0", 25, 1000),))
LESS = Placement(12, 128, 1, layers=24, shares=(Share("Vulkan0", 12, 500),))
KILLED = WorkerDied("toy", "SIGKILL")


@pytest.fixture
def ladder(engines: Pool) -> Pool:
    engines.loader.ladder = (ON_GPU, LESS, PLACEMENT)
    return engines


def layers(starts: Starts) -> list[int]:
    return [placement.gpu_layers for placement in starts.placements]


@pytest.mark.parametrize(
    "error",
    [OutOfMemory("toy", "no room"), LoadFailed("toy", "vk::DeviceLostError"), WorkerDied("toy", "SIGSEGV")],
)
async def test_what_a_gpu_cannot_is_tried_with_less_within_the_same_request(
    ladder: Pool, starts: Starts, error: KylinError
) -> None:
    starts.errors = [error]
    engine = await ladder.acquire(TOY)
    assert layers(starts) == [25, 12]
    assert error.statement() in engine.placement.reasons[0]
    assert engine.stepped_down == error.statement(), "the user is not told"
    await ladder.close()


async def test_the_last_rung_is_the_cpu_and_its_failure_the_request_s(ladder: Pool, starts: Starts) -> None:
    starts.errors = [WorkerDied("toy", "SIGSEGV"), OutOfMemory("toy", "2"), LoadFailed("toy", "3")]
    with pytest.raises(LoadFailed) as caught:
        await ladder.acquire(TOY)
    assert (caught.value.reason, layers(starts)) == ("3", [25, 12, 0])


async def test_a_model_that_is_refused_on_the_cpu_is_tried_once(engines: Pool, starts: Starts) -> None:
    engines.loader.ladder = (PLACEMENT, PLACEMENT)
    starts.errors = [LoadFailed("toy", "unknown architecture")]
    with pytest.raises(LoadFailed):
        await engines.acquire(TOY)
    assert starts.count == 1
    starts.errors = [OutOfMemory("toy", "no room")]
    await engines.acquire(TOY)
    assert starts.count == 3, "want of memory passes with less"
    await engines.close()


async def test_what_worked_is_remembered_for_the_next_time_and_the_next_service(
    ladder: Pool, starts: Starts, tmp_path: Path
) -> None:
    starts.errors = [OutOfMemory("toy", "no room")]
    await ladder.acquire(TOY)
    await ladder.unload(TOY)
    await ladder.acquire(TOY)
    await ladder.close()
    after = Pool(config.load({"cache_dir": tmp_path}, {}))
    after.loader.ladder = ladder.loader.ladder
    engine = await after.acquire(TOY)
    await after.close()
    assert layers(starts) == [25, 12, 12, 12]
    assert not engine.stepped_down, "the user is told again"


async def test_a_worker_killed_over_a_question_costs_one_more_try_on_less(
    ladder: Pool, starts: Starts
) -> None:
    async def question(engine: Any) -> int:
        if engine.placement.gpu_layers == 25:
            raise engine.die(KILLED)
        assert engine.stepped_down == KILLED.statement(), "the user is not told"
        return int(engine.placement.gpu_layers)

    assert await ladder.ask(TOY, question) == 12
    await ladder.close()


async def test_a_question_that_kills_twice_is_an_error(ladder: Pool, starts: Starts) -> None:
    async def question(engine: Any) -> int:
        raise engine.die(KILLED)

    with pytest.raises(WorkerDied):
        await ladder.ask(TOY, question)
    assert layers(starts) == [25, 12]
    await ladder.close()


# --- placing anew -------------------------------------------------------------------------------------


async def some_sweeps() -> None:
    await asyncio.sleep(0.05)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():
            await asyncio.sleep(0.001)


async def test_a_gpu_that_others_fill_is_left_between_requests(ladder: Pool, clock: Clock) -> None:
    engine: Any = await ladder.acquire(TOY)
    await some_sweeps()
    ladder.loader.better, engine.busy, engine.free = True, True, {"Vulkan0": 0}
    await some_sweeps()
    assert ladder.loaded() and not ladder.loader.reasons, "never during a request"
    engine.busy = False
    await until(lambda: not ladder.loaded())
    assert ladder.loader.reasons == ["less"]
    ladder.loader.ladder = (LESS, PLACEMENT)
    assert (await ladder.acquire(TOY)).placement.gpu_layers == 12
    await ladder.close()


async def test_what_a_plan_would_not_change_stays_loaded(ladder: Pool, clock: Clock) -> None:
    engine: Any = await ladder.acquire(TOY)
    await some_sweeps()
    engine.free = {"Vulkan0": 0}
    await until(lambda: bool(ladder.loader.reasons))
    await some_sweeps()
    assert ladder.loaded() and ladder.loader.reasons == ["less"], "it was looked into again and again"
    await ladder.close()


async def test_an_idle_model_moves_to_a_faster_place_and_is_no_younger_for_it(
    ladder: Pool, clock: Clock, starts: Starts
) -> None:
    ladder.loader.ladder, ladder.loader.better = (LESS, PLACEMENT), True
    clock.now += EVERY_S
    first = await ladder.acquire(TOY)
    clock.now += IDLE_S
    await some_sweeps()
    assert starts.count == 1, "it was loaded a minute ago"
    for _ in range(int(EVERY_S / 100)):
        clock.now += 100
        await ladder.acquire(TOY)
    ladder.loader.ladder = (ON_GPU,)
    await some_sweeps()
    assert starts.count == 1, "somebody may go on asking"
    clock.now += IDLE_S
    await until(lambda: starts.count == 2 and bool(ladder.loaded()))
    assert ladder.loader.reasons == ["more"]
    clock.now += 300 - IDLE_S + 1
    await until(lambda: not ladder.loaded())
    assert (await ladder.acquire(TOY)) is not first
    await ladder.close()


async def test_a_look_that_fails_harms_nothing(
    ladder: Pool, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> bool:
        raise LoadFailed("toy", "the driver is gone")

    monkeypatch.setattr(ladder.loader, "misplaced", fail)
    engine: Any = await ladder.acquire(TOY)
    await some_sweeps()
    engine.free = {"Vulkan0": 0}
    await some_sweeps()
    assert await ladder.acquire(TOY) is engine
    clock.now += 301
    await until(lambda: not ladder.loaded())
    await ladder.close()


async def test_idle_models_are_unloaded_after_a_look_that_went_wrong(
    engines: Pool, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    looks = iter((OSError(5, "the kernel says no"),))

    def pressure() -> float:
        for error in looks:
            raise error
        return 0.0

    monkeypatch.setattr(pool, "memory_pressure", pressure)
    await engines.acquire(TOY)
    clock.now += 301
    await until(lambda: not engines.loaded())
    assert "the kernel says no" in caplog.text
    await engines.close()
