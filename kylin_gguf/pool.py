"""Which models are loaded: loads on demand, keeps what is used, unloads what is idle or in the way."""

from __future__ import annotations

import asyncio
import functools
import logging
import subprocess
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from kylin_gguf.engine.backoff import Backoff
from kylin_gguf.engine.process import EngineProcess, Listeners
from kylin_gguf.errors import KylinError, WorkerDied, WorkerHung
from kylin_gguf.gguf_info import shards
from kylin_gguf.offload import machine
from kylin_gguf.offload.heat import Heat
from kylin_gguf.offload.power import saves
from kylin_gguf.offload.pressure import SCARCE, memory_pressure
from kylin_gguf.offload.replan import IDLE_S, Watch
from kylin_gguf.records import (
    Activity,
    InstalledModel,
    LoadedModel,
    Model,
    Placement,
    Power,
    Progress,
    ProgressCallback,
    RemoteModel,
    Settings,
    no_progress,
)

if TYPE_CHECKING:
    from kylin_gguf.loading import Loader

log = logging.getLogger(__name__)

_SWEEP_SECONDS = 5.0
_KEPT_UNDER_PRESSURE_S = 30.0
"""How long an unused model stays while programs wait for memory. Whoever asks for it then has it planned for
the memory that there is."""

Answer = TypeVar("Answer")


class EnginePool:
    """The worker processes, by the reference of the model that each holds."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._engines: dict[str, EngineProcess] = {}
        self._used: dict[str, float] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._backoffs: dict[str, Backoff] = {}
        self._sweeper: asyncio.Task[None] | None = None
        self._watches: dict[str, Watch] = {}
        self._replanning: asyncio.Future[Any] | None = None
        self.power = Power()
        """Where the machine's power comes from, and whether the processor is too warm."""
        self._heat = Heat()
        self._thrift = (saves(settings.power, self.power), False)
        """What workers were told of it: whether to save energy, and whether the machine runs on battery."""
        self.on_change: Callable[[], None] = lambda: None
        """Called after a model was loaded or unloaded."""

    @functools.cached_property
    def _loader(self) -> Loader:
        # Its planner needs numpy, a third of the memory of a service that nobody uses.
        from kylin_gguf.loading import Loader  # noqa: PLC0415

        return Loader(self._settings, lambda: self.power)

    @property
    def busy(self) -> bool:
        """Whether any worker has a request."""
        return any(engine.busy for engine in self._engines.values())

    def loaded(self) -> tuple[LoadedModel, ...]:
        """Return what is loaded now."""
        return tuple(_described(engine) for engine in self._engines.values())

    async def activity(self) -> list[tuple[LoadedModel, Activity]]:
        """Return what is loaded now, each with what it does. To be asked keeps no model loaded."""
        engines = tuple(self._engines.values())
        readings = await asyncio.gather(*(engine.activity() for engine in engines))
        return [(_described(engine), reading) for engine, reading in zip(engines, readings, strict=True)]

    async def plan(self, model: InstalledModel, options: Mapping[str, Any]) -> Placement:
        """Return where ``model`` would go now; see ``Loader.plan``."""
        return await self._loader.plan(model, options)

    async def acquire(self, model: Model, progress: ProgressCallback = no_progress) -> EngineProcess:
        """Return the worker that holds ``model``, after loading it if need be.

        Raises:
            ModelError, NativeError, EngineError: it cannot be loaded.
            RestartDelayed: its worker has died while loading, and it is too early to try again.
        """
        async with self._lock(model.reference):
            self._used[model.reference] = time.monotonic()
            engine = self._engines.get(model.reference)
            return engine or await self._load(model, progress)

    async def ask(
        self,
        model: Model,
        question: Callable[[EngineProcess], Awaitable[Answer]],
        progress: ProgressCallback = no_progress,
    ) -> Answer:
        """Return what ``question`` brings from the worker that holds ``model``. One that dies over it costs
        one more try, on less memory if that may have been the cause.

        Raises:
            KylinError: as ``acquire`` and the worker report.
        """
        engine = await self.acquire(model, progress)
        try:
            return await question(engine)
        except WorkerDied as error:
            log.warning("%s Asking once more.", error.statement())
        return await question(await self.acquire(model, progress))

    def _lock(self, reference: str) -> asyncio.Lock:
        """Return one model's lock. Who starts or stops its worker holds it, so nobody gets one that ends."""
        return self._locks.setdefault(reference, asyncio.Lock())

    async def _load(self, model: Model, progress: ProgressCallback) -> EngineProcess:
        backoff = self._backoffs.get(model.reference, Backoff())
        backoff.check(model.name, time.monotonic())

        def report(fraction: float) -> None:
            progress(Progress("loading", int(fraction * 100), 100, "%"))

        listeners = Listeners(report, self._changed, self._exited)
        try:
            engine = await self._started(model, listeners)
        except (WorkerDied, WorkerHung) as error:
            backoff.failed(error, time.monotonic())
            self._backoffs[model.reference] = backoff
            raise
        self._backoffs.pop(model.reference, None)
        log.info("loaded %s in %.2f s: %s", model.name, engine.load_s, _where(engine))
        if any(self._thrift) and engine.placement:
            engine.heed_power(*self._thrift)
        self._engines[model.reference] = engine
        self._used[model.reference] = time.monotonic()
        self._watches[model.reference] = Watch(time.monotonic())
        self._sweeper = self._sweeper or asyncio.ensure_future(self._sweep())
        self.on_change()
        return engine

    async def _started(self, model: Model, listeners: Listeners) -> EngineProcess:
        if isinstance(model, RemoteModel):
            return await EngineProcess.start_remote(model, listeners)
        await self._make_room(model)
        return await self._loader.start(model, listeners)

    async def _make_room(self, model: InstalledModel) -> None:
        """Unload idle models, the longest unused first, until the memory for ``model`` is there."""
        from kylin_gguf.offload.plan import needed_memory  # noqa: PLC0415 - see ``_loader``

        info = await asyncio.to_thread(shards.read, model.path)
        settings = self._settings
        needed = needed_memory(info, settings.context_length, settings.kv_type, settings.sequences)
        held = [reference for reference, engine in self._engines.items() if engine.placement]
        for reference in sorted(held, key=lambda reference: self._used[reference]):
            if machine.available_memory() >= needed:
                return
            await self._stop_if(reference, lambda engine: not engine.busy, f"{model.name} needs its memory")

    async def _stop_if(self, reference: str, condition: Callable[[EngineProcess], bool], why: str) -> None:
        async with self._lock(reference):
            engine = self._engines.get(reference)
            if engine and condition(engine):
                log.info("unloading %s: %s", engine.model.name, why)
                await engine.stop()

    def heed_power(self, power: Power) -> None:
        """Take in where the power comes from."""
        self.power = replace(power, hot=self.power.hot)
        self._tell_power()

    def _tell_power(self) -> None:
        thrift = saves(self._settings.power, self.power), self.power.on_battery is True
        if thrift != self._thrift:
            self._thrift = thrift
            for engine in self._engines.values():
                if engine.placement:
                    engine.heed_power(*thrift)

    def _changed(self) -> None:
        self.on_change()

    def _exited(self, engine: EngineProcess) -> None:
        if engine.failure and engine.placement:
            self._loader.lost(engine, engine.failure)
        if self._engines.get(engine.model.reference) is engine:
            del self._engines[engine.model.reference]
            self.on_change()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            try:
                await self._look_after()
            except Exception:  # who would notice that idle models stay from now on?
                log.exception("Could not look after the loaded models.")

    async def _look_after(self) -> None:
        """Take in how warm it is, place models anew that lie wrong, and unload idle ones."""
        self.power = replace(self.power, hot=await asyncio.to_thread(self._heat.hot))
        self._tell_power()
        for reference, engine in self._engines.items():
            if engine.busy:
                self._used[reference] = time.monotonic()
        if self._replanning is None or self._replanning.done():
            self._replanning = asyncio.gather(*map(self._replan, self._engines.values()))
        keep_s, why = self._settings.idle_unload_s, "idle"
        if memory_pressure() > SCARCE:
            keep_s, why = min(_KEPT_UNDER_PRESSURE_S, keep_s), "programs wait for memory"

        def unused(engine: EngineProcess, seconds: float = keep_s) -> bool:
            unused_s = time.monotonic() - self._used[engine.model.reference]
            return not engine.busy and unused_s > seconds

        idle = [reference for reference, engine in self._engines.items() if unused(engine)]
        await asyncio.gather(*(self._stop_if(reference, unused, why) for reference in idle))

    async def _replan(self, engine: EngineProcess) -> None:
        """Place ``engine``'s model anew, if its GPU has less memory than when it was loaded, or more."""
        if not engine.placement:
            return
        reference = engine.model.reference
        free: Mapping[str, int] = {}
        if engine.placement.shares and not engine.busy:
            free = (await engine.activity()).device_free
        if engine.busy or self._engines.get(reference) is not engine:
            return
        now = time.monotonic()
        reason = self._watches[reference].look(free, now, now - self._used[reference])
        try:
            if reason is None or not await self._loader.misplaced(engine, reason):
                return
            if reason == "less":
                why = "other programs have taken its GPU's memory"
                await self._stop_if(reference, lambda found: found is engine and not found.busy, why)
            else:
                await self._reload(engine)
        except (KylinError, OSError, subprocess.SubprocessError) as error:
            log.warning("%s could not be placed anew: %s", engine.model.name, error)

    async def _reload(self, engine: EngineProcess) -> None:
        """Load ``engine``'s model anew while nobody asks it anything; that counts as no use of it."""
        reference = engine.model.reference
        async with self._lock(reference):
            used = self._used[reference]
            if self._engines.get(reference) is not engine or engine.busy or time.monotonic() - used < IDLE_S:
                return
            log.info("loading %s anew: there is memory for a faster placement", engine.model.name)
            await engine.stop()
            await self._load(engine.model, no_progress)
            self._used[reference] = used

    async def unload(self, model: Model) -> None:
        """Unload ``model`` if it is loaded; its streams end ``cancelled``."""
        await self._stop_if(model.reference, lambda _: True, "asked to")

    async def close(self) -> None:
        """Unload everything."""
        running = [task for task in (self._sweeper, self._replanning) if task]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await asyncio.gather(*(engine.stop() for engine in list(self._engines.values())))


def _where(engine: EngineProcess) -> str:
    if isinstance(engine.model, RemoteModel):
        return f"{engine.model.host} answers"
    return "; ".join(engine.placement.reasons) if engine.placement else ""


def _described(engine: EngineProcess) -> LoadedModel:
    memory, model = engine.memory(), engine.model
    return LoadedModel(
        name=model.name,
        path=None if isinstance(model, RemoteModel) else model.path,
        pid=engine.pid,
        load_s=engine.load_s,
        memory=memory.resident,
        memory_private=memory.private,
        memory_mapped=memory.mapped,
        placement=engine.placement,
        speculation=engine.speculation,
        buffers=engine.buffers,
        remote=model.host if isinstance(model, RemoteModel) else "",
    )
