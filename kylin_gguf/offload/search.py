"""All ways to lay a model out, weighed at once: which fit, and which of them answers first.

The ways do not depend on how much memory there is, only whether one fits does. So more memory can only add to
what is chosen from, and never makes the choice slower.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations

import numpy as np
import numpy.typing as npt

from kylin_gguf.gguf_info import GgufInfo
from kylin_gguf.offload import speed
from kylin_gguf.offload.estimate import OVERHEAD, Estimator, Layout
from kylin_gguf.offload.speed import Speed, Workload
from kylin_gguf.records import Device

_MOST_DEVICES = 3
"""GPUs that one model is spread over at most, the fastest. With four the ways are millions."""
_USUAL_BYTES = 0.6  # a parameter of Q4_K_M, for a file that states no parameters

Numbers = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Room:
    """What may be used: bytes of RAM, and of each GPU. Of GPUs in the processor RAM is a part."""

    ram: int
    devices: tuple[tuple[Device, int], ...] = ()


@dataclass(frozen=True)
class Way:
    """One way: a layout over ``devices``, and what is expected of it."""

    layout: Layout
    devices: tuple[Device, ...]
    seconds: float
    """For the workload."""
    decode: float
    prompt: float
    """Both in tokens a second."""


class Search:
    """The ways for one model, run in one way, for one kind of request."""

    def __init__(self, info: GgufInfo, estimator: Estimator, processor: Speed, work: Workload, batch: int):
        self._estimator, self._processor, self._work, self._batch = estimator, processor, work, batch
        weights, cached = estimator.weights, estimator.cache
        output = [weights.output.size]
        self._layers = estimator.layers
        self._batches = -(-work.prompt // batch)
        experts = [part.size for part in weights.experts] + [0]
        dense = [part.size for part in weights.dense] + output
        used = _used_share(info)
        per_byte = 1 / (info.tensor_bytes / info.parameters if info.parameters else _USUAL_BYTES)
        attended = [size * work.remembered for size in cached.per_cell] + [0]
        self._dense, self._experts = _sums(dense), _sums(experts)
        self._cached = _sums([*cached.layers, 0])
        self._read_dense = _sums(np.add(dense, attended))
        self._read_experts = _sums(np.multiply(experts, used))
        self._used, self._per_byte = used, per_byte
        width = info.own("embedding_length")
        self._width = width if isinstance(width, int) else 0

    def on_processor(self, room: Room, *, repack: bool) -> Way | None:
        """Return the way without a GPU, or None if RAM does not suffice for it."""
        layout = Layout(repack=repack)
        memory = self._estimator.memory(layout)
        if memory.ram.total > room.ram:
            return None
        return self.unconstrained(layout, helps=bool(memory.repacked))

    def unconstrained(self, layout: Layout, *, helps: bool = False) -> Way:
        """Return the way without a GPU whether it fits or not; ``helps``: weights are repacked for it."""
        read = float(self._read_dense[-1] + self._read_experts[-1])
        parameters = self._parameters(self._dense[-1], self._experts[-1])
        starting = self._layers * self._processor.layer
        answer = speed.reading_s(read, self._processor) + starting
        token = float(speed.computing_s(parameters, 1, self._processor, repacked=helps))
        return self._way(layout, (), answer, token + starting * self._batches / self._work.prompt)

    def from_disk(self, way: Way, missing: int) -> Way:
        """Return what becomes of ``way`` where ``missing`` bytes of it have no room in RAM."""
        again = speed.rereading_s(missing * self._used)
        decode, batch = 1 / (1 / way.decode + again), again / self._batch
        prompt = 1 / (1 / way.prompt + batch) if way.prompt else 0.0
        seconds = way.seconds + self._work.answer * again + self._work.prompt * batch
        return replace(way, seconds=seconds, decode=decode, prompt=prompt)

    def with_devices(self, room: Room, layers: int | None = None, *, most: bool = False) -> Iterator[Way]:
        """Yield the fastest way for each set of GPUs that fits; with ``layers``, those with that many. With
        ``most``, only ways that leave as little in RAM as such a set can, be they fast or not."""
        ranked = sorted(room.devices, key=lambda item: (-self._rank(item[0]), item[0].name))[:_MOST_DEVICES]
        for count in range(1, len(ranked) + 1):
            for chosen in combinations(ranked, count):
                way = self._best(chosen, room.ram, layers, most=most)
                if way:
                    yield way

    def _rank(self, device: Device) -> float:
        return speed.of_device(device, self._processor).bandwidth

    def _best(
        self, chosen: Sequence[tuple[Device, int]], ram: int, layers: int | None, *, most: bool
    ) -> Way | None:
        counts = ways(self._layers + 1, len(chosen))
        if layers is not None:
            counts = counts[counts.sum(axis=1) == min(layers, self._layers + 1)]
        kept = np.zeros(len(counts), np.int64)
        # Whole models with some experts in RAM are ways, too; with three devices they are too many.
        if self._estimator.weights.has_experts and len(chosen) < _MOST_DEVICES:
            whole = counts[counts.sum(axis=1) == self._layers + 1]
            numbers = np.arange(1, self._layers + 1)
            counts = np.concatenate([counts, np.repeat(whole, len(numbers), axis=0)])
            kept = np.concatenate([kept, np.tile(numbers, len(whole))])
        if not len(counts):
            return None
        fits = self._fits(chosen, counts, kept, ram)
        if not fits.any():
            return None
        if most:
            left = kept - counts.sum(axis=1)
            fits &= left == left[fits].min()
        answer, token = self._times([device for device, _ in chosen], counts, kept)
        seconds = self._work.answer * answer + self._work.prompt * token
        best = int(np.argmin(np.where(fits, seconds, np.inf)))
        layout = Layout(tuple(map(int, counts[best])), int(kept[best]), repack=False)
        return self._way(layout, tuple(d for d, _ in chosen), float(answer[best]), float(token[best]))

    def _way(self, layout: Layout, devices: tuple[Device, ...], answer: float, token: float) -> Way:
        seconds = self._work.answer * answer + self._work.prompt * token
        return Way(layout, devices, seconds, 1 / answer, 1 / token if token else 0.0)

    def _fits(
        self, chosen: Sequence[tuple[Device, int]], counts: Counts, kept: Counts, ram: int
    ) -> npt.NDArray[np.bool_]:
        bounds = _bounds(counts, self._layers)
        partial = (bounds[0] > 0) | (kept > 0)
        compute = self._estimator.compute
        pipelined = ~partial & (len(chosen) > 1)
        first = bounds[0]
        size = (
            self._estimator.weights.embeddings.size
            + self._dense[first]
            + self._experts[np.maximum(first, kept)]
            + self._cached[first]
            + np.where(partial, compute.shared, compute.relayed)
            + pipelined * compute.relayed_pipelined
            + compute.output
            + OVERHEAD
        )
        fits = np.ones(len(counts), bool)
        for number, (device, budget) in enumerate(chosen):
            start, end = bounds[number], bounds[number + 1]
            there = (
                self._dense[end]
                - self._dense[start]
                + self._experts[np.maximum(end, kept)]
                - self._experts[np.maximum(start, kept)]
                + self._cached[end]
                - self._cached[start]
                + (np.where(partial, compute.lent, compute.whole) if number == 0 else compute.whole)
                + pipelined * compute.pipelined
            )
            fits &= there <= budget
            if device.kind == "igpu":
                size = size + there
        return fits & (size <= ram)

    def _times(self, devices: Sequence[Device], counts: Counts, kept: Counts) -> tuple[Numbers, Numbers]:
        """Return the seconds of one token: of an answer, and of a prompt."""
        bounds = _bounds(counts, self._layers)
        first, work = bounds[0], self._work
        in_ram = np.maximum(first, kept)
        answer = speed.reading_s(self._read_dense[first] + self._read_experts[in_ram], self._processor)
        answer = answer + first * self._processor.layer
        size = self._dense[first] + self._experts[in_ram]
        here = self._parameters(self._dense[first], self._experts[in_ram])
        prompt = speed.computing_s(here, work.prompt, self._processor)
        if devices[0].kind != "remote":  # ggml computes no prompts for RAM over a network
            fastest = speed.of_device(devices[0], self._processor)
            prompt = np.minimum(prompt, speed.lent_s(size, here, work.prompt, self._batch, fastest))
        prompt = prompt + first * self._processor.layer * self._batches
        for number, device in enumerate(devices):
            start, end = bounds[number], bounds[number + 1]
            own = speed.of_device(device, self._processor)
            dense = self._dense[end] - self._dense[start]
            experts = self._experts[np.maximum(end, kept)] - self._experts[np.maximum(start, kept)]
            read = self._read_dense[end] - self._read_dense[start] + experts * self._used
            # The output counts as a layer and is one operation.
            starting = (np.minimum(end, self._layers) - np.minimum(start, self._layers)) * own.layer
            answer = answer + speed.reading_s(read, own) + starting + speed.passing_s(device, self._width)
            prompt = prompt + work.prompt * speed.crossing_s(device, self._width) + starting * self._batches
            prompt = prompt + speed.computing_s(self._parameters(dense, experts), work.prompt, own)
        return answer, prompt / work.prompt

    def _parameters(self, dense: Numbers, experts: Numbers) -> Numbers:
        """Return how many parameters a token goes through, given bytes."""
        return (dense + experts * self._used) * self._per_byte


@lru_cache(maxsize=16)
def ways(layers: int, devices: int) -> Counts:
    """Return the ways to give 1 to ``layers`` layers to ``devices`` devices, each at least one: shape
    (ways, devices). With three devices, the first two get odd numbers only: a quarter of the ways will do."""
    step = 1 if devices < _MOST_DEVICES else 2
    axes = [np.arange(1, layers + 1, step)] * (devices - 1) + [np.arange(1, layers + 1)]
    counts = np.stack([grid.ravel() for grid in np.meshgrid(*axes, indexing="ij")], axis=1)
    fitting: Counts = counts[counts.sum(axis=1) <= layers]
    return fitting


def _bounds(counts: Counts, layers: int) -> list[Counts]:
    """Return where each device's layers begin, and where the last one's end."""
    first = layers + 1 - counts.sum(axis=1)
    return [first + counts[:, :number].sum(axis=1) for number in range(counts.shape[1] + 1)]


def _used_share(info: GgufInfo) -> float:
    counts = [info.own(key) for key in ("expert_used_count", "expert_count")]
    used, all_of_them = (count if isinstance(count, int) else 0 for count in counts)
    return min(used / all_of_them, 1.0) if used and all_of_them else 1.0


def _sums(values: Sequence[float] | Numbers) -> Numbers:
    return np.concatenate([[0.0], np.cumsum(np.asarray(values, np.float64))])
