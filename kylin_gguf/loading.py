"""Getting a model into a worker: plan, try, step down the ladder where that fails, remember what worked."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from kylin_gguf import call_options
from kylin_gguf.engine.process import EngineProcess, Listeners
from kylin_gguf.errors import (
    DeviceMissing,
    InvalidValue,
    KylinError,
    LoadFailed,
    WorkerDied,
    WorkerHung,
)
from kylin_gguf.gguf_info import shards
from kylin_gguf.offload import machine, remembered
from kylin_gguf.offload.ladder import ladder, worth_stepping_down
from kylin_gguf.offload.plan import Request, for_use, plan
from kylin_gguf.offload.remembered import Remembered
from kylin_gguf.offload.replan import Reason, without, worthwhile
from kylin_gguf.records import InstalledModel, Placement, Power, RemoteModel, Settings
from kylin_gguf.translation import N_, translate

log = logging.getLogger(__name__)

_PLAN_OPTIONS = ("context_length", "device", "use")


class Loader:
    """Starts workers. ``lost`` tells it of those that died with a request."""

    def __init__(self, settings: Settings, power: Callable[[], Power] = Power) -> None:
        """``power`` tells where the machine's power comes from now."""
        self._settings, self._power = settings, power
        self._remembered = Remembered(settings.cache_dir / "placements")
        self._rungs: dict[str, int] = {}
        """By the model's reference: the rung that each model's worker was started on."""
        self._least: dict[str, int] = {}
        """The rung to begin with, where the one before it has let a request down."""
        self._lost: dict[str, str] = {}
        """How it did, until the next worker can tell."""
        self._gpus = False
        """Whether the machine has GPUs that a plan would use, as of the last look."""

    async def plan(self, model: InstalledModel, options: Mapping[str, Any]) -> Placement:
        """Return where ``model`` would go now. ``options`` may hold ``context_length``,
        ``device`` and ``use``.

        Raises:
            UnknownOption, InvalidValue, DeviceMissing: bad ``options``.
            NotGguf, TruncatedGguf, LibraryLoadFailed: the model or the libraries cannot be read.
        """
        request = _request(self._settings, options)
        info = await asyncio.to_thread(shards.read, model.path)
        found = await self._probe()
        return plan(info, found, request)

    async def _probe(self) -> machine.Machine:
        return await asyncio.to_thread(machine.probe, self._settings, self._power())

    async def placements(self, model: InstalledModel) -> tuple[str, list[Placement]]:
        """Return what to try in turn, the same one never twice, and the key to remember it under."""
        return await self._placements(model, await self._probe())

    async def _placements(self, model: InstalledModel, found: machine.Machine) -> tuple[str, list[Placement]]:
        self._gpus = any(self._settings.device or not device.software for device in found.accelerators)
        request = Request.of(self._settings)
        info = await asyncio.to_thread(shards.read, model.path)
        tried: list[Placement] = []
        for wanted in ladder(request, plan(info, found, request)):
            placement = plan(info, found, wanted)
            if not any(_same(placement, other) for other in tried):
                tried.append(placement)
        return remembered.key(model.path, found, request), tried

    async def start(self, model: InstalledModel, listeners: Listeners) -> EngineProcess:
        """Start a worker that holds ``model``, on the first rung of the ladder that works.

        Raises:
            ModelError, NativeError, EngineError: none does; as the last one's worker reports it.
        """
        key, placements = await self.placements(model)
        last = len(placements) - 1
        first = self._first(model, key, last)
        failure: KylinError | None = None
        for rung in range(first, last + 1):
            placement = _explained(placements[rung], failure) if rung else placements[rung]
            try:
                engine = await EngineProcess.start(model, placement, self._settings, listeners)
            except (DeviceMissing, LoadFailed, WorkerDied, WorkerHung) as error:
                if rung == last or not worth_stepping_down(error, placement):
                    raise
                log.warning("%s: %s Trying something smaller.", model.name, error.statement())
                failure = error
                continue
            lost = self._lost.pop(model.reference, "")
            engine.stepped_down = failure.statement() if failure else lost
            self._rungs[model.reference] = rung
            if rung > first:
                await asyncio.to_thread(self._remembered.keep, key, rung)
            return engine
        raise AssertionError("a ladder has at least one rung")

    def _first(self, model: InstalledModel, key: str, last: int) -> int:
        """Return the rung to begin with."""
        return min(max(self._remembered.rung(key), self._least.get(model.reference, 0)), last)

    async def misplaced(self, engine: EngineProcess, reason: Reason) -> bool:
        """Return whether ``engine``'s model should be loaded anew, because there is less memory for it, or
        more. The machine is looked at as if it were not loaded, which takes a moment.

        Raises:
            LibrariesMissing, LibraryLoadFailed, DeviceMissing, NotGguf, TruncatedGguf: as for ``start``.
        """
        model, placement = engine.model, engine.placement
        if isinstance(model, RemoteModel) or placement is None:
            return False
        if reason == "more" and not (self._gpus and placement.is_partial):
            return False
        found = without(await self._probe(), engine.buffers, engine.memory().private)
        key, placements = await self._placements(model, found)
        wanted = placements[self._first(model, key, len(placements) - 1)]
        return worthwhile(reason, placement, wanted, named=bool(self._settings.device))

    def lost(self, engine: EngineProcess, error: KylinError) -> None:
        """Note that ``engine`` died with a request. Where less may work, its model starts one rung lower from
        now on, until this service ends."""
        held = engine.model.reference
        if held in self._rungs and engine.placement and worth_stepping_down(error, engine.placement):
            self._least[held] = self._rungs[held] + 1
            self._lost[held] = error.statement()


def _explained(placement: Placement, failure: KylinError | None) -> Placement:
    """Return a lower rung's placement with the reason for it in front."""
    if failure is None:
        reason = translate(N_("stepped down: more did not work the last time"))
    else:
        reason = translate(N_("stepped down: {0}")).format(failure.statement())
    return replace(placement, reasons=(reason, *placement.reasons))


def _same(one: Placement, other: Placement) -> bool:
    return replace(one, reasons=()) == replace(other, reasons=())


def _request(settings: Settings, options: Mapping[str, Any]) -> Request:
    """Return what the settings want, but for ``options``."""
    call_options.refuse_unknown(options, _PLAN_OPTIONS)
    length = options.get("context_length", settings.context_length)
    if isinstance(length, bool) or not isinstance(length, int) or length < 1:
        raise InvalidValue("context_length", repr(length), "a number of tokens")
    device = call_options.text(options, "device", settings.device)
    request = replace(Request.of(settings), context_length=length, device=device)
    return for_use(request, call_options.text(options, "use", settings.use))
