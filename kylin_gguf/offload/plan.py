"""From model, machine and wishes to a placement: a pure function that can say why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Self

from kylin_gguf.errors import DeviceMissing, InvalidValue
from kylin_gguf.gguf_info import GgufInfo
from kylin_gguf.offload import power, speed
from kylin_gguf.offload.estimate import Estimator, Layout, Memory, Run
from kylin_gguf.offload.machine import GPU_MARGIN, Machine
from kylin_gguf.offload.search import Room, Search, Way
from kylin_gguf.records import Device, KvType, LoadMode, Placement, PowerMode, Settings, Share, Use
from kylin_gguf.translation import N_, translate

RAM_SHARE = 0.9
"""How much of the available RAM a model may take: programs grow."""

CPU = "cpu"
"""As a device's name: no GPU."""

_LEAST_CONTEXT = 1024


@dataclass(frozen=True)
class Request:
    """What the user wants. ``threads`` 0, ``gpu_layers`` -1, no ``mode`` and no ``device``: as the planner
    chooses. ``device`` may name several, separated by commas. ``gpu_memory`` is the most that may be used of
    each GPU, in bytes; 0: what is free but a margin. ``shrink``: a shorter context is better than none on
    this machine's RAM."""

    context_length: int
    sequences: int = 4
    threads: int = 0
    gpu_layers: int = -1
    mode: LoadMode | None = None
    kv_type: KvType = "f16"
    device: str = ""
    gpu_memory: int = 0
    use: Use = "chat"
    shrink: bool = False
    batch_size: int = Placement.batch_size
    power: PowerMode = "auto"

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return what the settings want."""
        return cls(
            settings.context_length,
            settings.sequences,
            settings.threads,
            settings.gpu_layers,
            None if settings.load_mode == "auto" else settings.load_mode,
            settings.kv_type,
            settings.device,
            settings.gpu_memory_mb * 1_000_000,
            use=settings.use,
            shrink=settings.context_fit == "shrink",
            power=settings.power,
        )


def for_use(request: Request, use: str) -> Request:
    """Return ``request`` for another use.

    Raises:
        InvalidValue: ``use`` is none of ``speed.WORKLOADS``.
    """
    for known in speed.WORKLOADS:
        if known == use:
            return replace(request, use=known)
    raise InvalidValue("use", use, " or ".join(speed.WORKLOADS))


def needed_memory(info: GgufInfo, context_length: int, kv_type: KvType, sequences: int) -> int:
    """Return the bytes of RAM that running ``info`` on the CPU takes."""
    run = Run(context_length, _batch_size(info, context_length), sequences, kv_type)
    return Estimator(info, run).memory(Layout()).ram.total


def plan(info: GgufInfo, machine: Machine, request: Request) -> Placement:
    """Place a model on a machine. The same input always gives the same placement.

    Raises:
        DeviceMissing: ``request.device`` is none of the machine's.
    """
    trained = info.context_length or request.context_length
    length = min(request.context_length, trained)
    reasons = []
    if length < request.context_length:
        reasons.append(_say(N_("context shortened to {0} tokens: the model was trained for no more"), length))
    planner = _Planner(info, machine, replace(request, context_length=length))
    while request.shrink and length > _LEAST_CONTEXT and not planner.fits:
        length = max(length // 2, _LEAST_CONTEXT)
        planner = _Planner(info, machine, replace(request, context_length=length))
    if length < min(request.context_length, trained):
        reasons.append(_say(N_("context shortened to {0} tokens: there is no memory for more"), length))
    return planner.placement(reasons)


class _Planner:
    """The decision for one context length."""

    def __init__(self, info: GgufInfo, machine: Machine, request: Request) -> None:
        self._info, self._machine, self._request = info, machine, request
        self._batch = _batch_size(info, request.context_length, request.batch_size)
        run = Run(request.context_length, self._batch, request.sequences, request.kv_type)
        self._estimator = Estimator(info, run, machine.processor)
        self._devices = _usable(machine, request)
        self._room = Room(
            int(machine.memory * RAM_SHARE), tuple((device, self._budget(device)) for device in self._devices)
        )
        processor = speed.of_processor(machine.cores, machine.bandwidth, machine.compute, machine.layer)
        self._search = Search(info, self._estimator, processor, speed.WORKLOADS[request.use], self._batch)
        wanted = request.gpu_layers if request.gpu_layers > 0 else None
        self._on_devices = list(self._search.with_devices(self._room, wanted, most=self._named))
        self._found = self._fastest()

    @property
    def fits(self) -> bool:
        """Whether some way has room for everything."""
        return self._found is not None

    @property
    def _named(self) -> bool:
        """Whether GPUs were asked for by their names."""
        return bool(self._request.device and self._devices)

    def _budget(self, device: Device) -> int:
        margin = 0 if device.kind == "remote" else GPU_MARGIN  # who lends has kept its own
        free = max(device.memory_free - margin, 0)
        return min(free, self._request.gpu_memory) if self._request.gpu_memory else free

    def _fastest(self) -> Way | None:
        """Return the best way that fits: on GPUs that were named, as much as has room; else the fastest."""
        wanted = self._request.gpu_layers
        if self._named and self._on_devices:
            return min(
                self._on_devices,
                key=lambda way: (way.layout.ram_experts - sum(way.layout.layers), way.seconds),
            )
        modes = [self._request.mode] if self._request.mode else ["throughput", "instant"]
        ways: list[Way | None] = [*self._on_devices]
        if wanted <= 0:
            ways += [self._search.on_processor(self._room, repack=mode == "throughput") for mode in modes]
        return min((way for way in ways if way), key=lambda way: way.seconds, default=None)

    def placement(self, reasons: list[str]) -> Placement:
        way = self._found or self._regardless()
        memory = self._estimator.memory(way.layout)
        in_ram = self._in_ram(way, memory)
        threads = self._request.threads or self._machine.cores
        chosen = zip(way.devices, way.layout.layers, memory.devices, strict=True)
        shares = tuple(Share(device.name, layers, use.total) for device, layers, use in chosen)
        reasons = [*reasons, *self._where(way, shares), *self._ram_reasons(in_ram)]
        reasons.append(_say(N_("{0} threads: one a core this process may use"), threads))
        saving = power.reason(self._request.power, self._machine.power, self._machine.meter)
        reasons += [saving] if saving else []
        return Placement(
            gpu_layers=sum(way.layout.layers),
            context_length=self._request.context_length,
            threads=threads,
            batch_size=self._batch,
            sequences=self._request.sequences,
            mode="throughput" if way.layout.repack else "instant",
            kv_type=self._request.kv_type,
            memory=memory.ram.total,
            layers=self._info.layers,
            shares=shares,
            ram_experts=way.layout.ram_experts,
            decode=round(way.decode, 3),
            prompt=round(way.prompt, 3),
            fits=in_ram <= self._room.ram,
            reasons=tuple(reasons),
        )

    def _regardless(self) -> Way:
        """Return what to do where nothing fits: what the user has fixed, else the way that reads least from
        the disk again and again. Pages of the mapped file can be dropped; the rest has to be there."""
        wanted = self._request.gpu_layers
        if wanted > 0 and self._devices:
            unlimited = Room(1 << 62, ((self._devices[0], 1 << 62),))
            return next(self._search.with_devices(unlimited, wanted))
        ways = [self._search.unconstrained(Layout(repack=self._request.mode == "throughput"))]
        # What a GPU in the processor takes cannot be dropped, and there is too little already.
        cards = tuple(item for item in self._room.devices if item[0].kind == "gpu")
        ways += self._search.with_devices(Room(1 << 62, cards))
        slowed = [self._search.from_disk(way, self._missing(way)) for way in ways]
        return min(slowed, key=lambda way: way.seconds)

    def _missing(self, way: Way) -> int:
        return max(self._in_ram(way, self._estimator.memory(way.layout)) - self._room.ram, 0)

    @staticmethod
    def _in_ram(way: Way, memory: Memory) -> int:
        """Return what is taken of the RAM, by GPUs in the processor, too."""
        shared = zip(way.devices, memory.devices, strict=True)
        return memory.ram.total + sum(use.total for device, use in shared if device.kind == "igpu")

    def _where(self, way: Way, shares: tuple[Share, ...]) -> Iterator[str]:
        if not shares:
            yield self._why_no_gpu()
        everything = self._estimator.layers + 1
        budgets = {device.name: budget for device, budget in self._room.devices}
        for device, share in zip(way.devices, shares, strict=True):
            room = budgets[device.name]
            if share.memory > room:
                tight = N_("{0} needs {1} MiB and has {2} MiB: as the settings want it")
                yield _say(tight, device.description, share.memory >> 20, room >> 20)
            elif share.layers == everything:
                whole = N_("all layers on {0}: {1} of {2} MiB")
                yield _say(whole, device.description, share.memory >> 20, room >> 20)
            else:
                some = N_("{0} of {1} layers on {2}: {3} of {4} MiB")
                sizes = (share.memory >> 20, room >> 20)
                yield _say(some, share.layers, everything, device.description, *sizes)
        if way.layout.ram_experts:
            yield _say(N_("the experts of {0} layers stay in RAM"), way.layout.ram_experts)
        yield from self._with_more(way)

    def _why_no_gpu(self) -> str:
        if self._devices and not self._on_devices:
            return translate(N_("on the CPU: no useful part fits on the GPU"))
        if self._devices:
            return translate(N_("on the CPU: faster than with the part that fits on the GPU"))
        if self._request.gpu_layers == 0 or self._request.device == CPU:
            return translate(N_("on the CPU: as the settings want it"))
        if self._machine.accelerators:
            return translate(N_("on the CPU: the only GPU is one that software pretends"))
        return translate(N_("on the CPU: no GPU back end found a device"))

    def _with_more(self, way: Way) -> Iterator[str]:
        """Say what more memory would change, where some of the model is left out of a GPU."""
        everything = self._estimator.layers + 1
        complete = sum(way.layout.layers) == everything and not way.layout.ram_experts
        if complete or not self._devices or self._request.gpu_layers >= 0:
            return
        device, budget = max(self._room.devices, key=lambda item: (item[1], item[0].name))
        missing = self._estimator.memory(Layout((everything,), repack=False)).devices[0].total - budget
        if missing > 0:
            more = N_("with {0} MiB more on {1} all layers would be there")
            yield _say(more, -(-missing >> 20), device.description)

    def _ram_reasons(self, needed: int) -> Iterator[str]:
        if needed > self._room.ram:
            reason = N_(
                "slow: {0} MiB needed and {1} MiB free, so weights will be read from disk again and again"
            )
            yield _say(reason, needed >> 20, self._room.ram >> 20)


def _usable(machine: Machine, request: Request) -> tuple[Device, ...]:
    """Return the GPUs that may be used: those that were asked for, else all real ones. One that software
    pretends is used only where layers were asked for and there is no other."""
    if request.gpu_layers == 0 or request.device == CPU:
        return ()
    found = machine.accelerators
    if request.device:
        return _named(request.device.split(","), found)
    real = tuple(device for device in found if not device.software)
    return real or (found[:1] if request.gpu_layers > 0 else ())


def _named(names: Sequence[str], found: Sequence[Device]) -> tuple[Device, ...]:
    present = {device.name: device for device in found}
    wanted = dict.fromkeys(name.strip() for name in names)
    for name in wanted:
        if name not in present:
            raise DeviceMissing(name, (*present,) if len(wanted) > 1 else (CPU, *present))
    return tuple(present[name] for name in wanted)


def _batch_size(info: GgufInfo, length: int, usual: int = Placement.batch_size) -> int:
    """Return llama.cpp's n_batch: a pooling is taken over the tokens of one batch, so a whole text has to
    fit, except where the last token's vector is the text's and each token sees only those before it."""
    in_parts = info.pooling == "last" and info.own("attention.causal") is not False
    return length if info.embeds and not in_parts else usual


def _say(template: str, *values: object) -> str:
    return translate(template).format(*values)
