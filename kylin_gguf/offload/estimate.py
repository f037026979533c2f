"""How much memory a model takes where, for a way to lay it out; exact for weights and cache.

``Estimator`` reads a model once and answers for any layout in constant time, so that a planner can try
thousands.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from kylin_gguf.gguf_info import GgufInfo
from kylin_gguf.offload.cache import Cache, cache
from kylin_gguf.offload.compute import Batch, Compute, compute
from kylin_gguf.offload.weights import Part, Weights, weights
from kylin_gguf.records import SPARE_SEQUENCES, KvType

OVERHEAD = 96 << 20
"""RAM of a worker beside its model: the interpreter, llama.cpp, a vocabulary, the CPU's scratch memory."""

_EMBEDDED_TEXTS = 64
"""Sequences of an embedding context at most (``engine.embedding``)."""


@dataclass(frozen=True)
class Use:
    """Bytes on one device."""

    weights: int = 0
    cache: int = 0
    compute: int = 0

    @property
    def total(self) -> int:
        """Their sum."""
        return self.weights + self.cache + self.compute


@dataclass(frozen=True)
class Memory:
    """What a model takes. ``ram`` counts each weight in RAM once, ``copied`` those of them that are in memory
    of their own and not pages of the file, ``repacked`` those of these that a kernel has in another order;
    ``devices`` are in the order of the layout."""

    ram: Use
    copied: int
    repacked: int
    devices: tuple[Use, ...]

    @property
    def private(self) -> int:
        """Bytes of RAM that cannot be dropped and read again, as the pages of a mapped file can."""
        return self.copied + self.ram.cache + self.ram.compute


@dataclass(frozen=True)
class Layout:
    """Where the layers go. ``layers`` gives each device's number of them: the last layers of the model, the
    first device's first; the output counts as one layer behind the last. The experts of the first
    ``ram_experts`` layers stay in RAM wherever their layer is."""

    layers: tuple[int, ...] = ()
    ram_experts: int = 0
    repack: bool = True


@dataclass(frozen=True)
class Run:
    """How a model is to run: tokens of context and of a batch, requests at once, the cache's type."""

    context_length: int
    batch_size: int
    sequences: int
    kv_type: KvType = "f16"


class Estimator:
    """What one model takes, run in one way on one kind of processor."""

    def __init__(self, info: GgufInfo, run: Run, processor: str = "") -> None:
        self.weights: Weights = weights(info, processor)
        batch = _batch(info, run)
        self.cache: Cache = cache(info, run.context_length, run.kv_type, batch.sequences)
        self.compute: Compute = compute(info, batch, self.cache, run.context_length, self.weights.largest)
        self.layers = len(self.weights.dense)
        self._dense = _sums(self.weights.dense)
        self._experts = _sums(self.weights.experts)
        self._cached = [0, *accumulate(self.cache.layers)]

    def memory(self, layout: Layout) -> Memory:
        """Return what ``layout`` takes. Weights are copied and repacked only where no accelerator is used:
        beside one, llama.cpp keeps them where it can copy them from."""
        first = self.layers + 1 - sum(layout.layers)
        ends = pairwise(accumulate(layout.layers, initial=first))
        devices = tuple(self._on_device(start, end, layout) for start, end in ends)
        kept = self._dense_of(0, first) + self._experts_of(0, max(first, layout.ram_experts))
        output = self.weights.output if first > self.layers else Part()
        size = self.weights.embeddings.size + kept.size + output.size
        if self.weights.tied and output.size and not (layout.repack and output.repacked):
            size -= self.weights.embeddings.size  # one matrix in two roles
        if layout.repack and not devices:
            copied, repacked = size, kept.repacked + output.repacked
        else:
            copied = repacked = 0
        buffers = self._in_ram(layout) if devices else self.compute.whole
        in_ram = Use(size, self._cache_of(0, first), buffers + self.compute.output + OVERHEAD)
        return Memory(in_ram, copied, repacked, devices)

    def _on_device(self, start: int, end: int, layout: Layout) -> Use:
        """Return what layers ``start`` up to ``end`` take, the output among them if it is beyond the last."""
        part = self._dense_of(start, end) + self._experts_of(max(start, layout.ram_experts), end)
        if end > self.layers:
            part += self.weights.output
        # Prompts of the layers in RAM are computed on the first accelerator (ggml's op_offload).
        lends = self._is_partial(layout) and start == self.layers + 1 - sum(layout.layers)
        buffers = self.compute.lent if lends else self.compute.whole
        if self._is_pipelined(layout):
            buffers += self.compute.pipelined
        return Use(part.size, self._cache_of(start, end), buffers)

    def _in_ram(self, layout: Layout) -> int:
        if self._is_partial(layout):
            return self.compute.shared
        return self.compute.relayed + self._is_pipelined(layout) * self.compute.relayed_pipelined

    def _is_pipelined(self, layout: Layout) -> bool:
        return len(layout.layers) > 1 and not self._is_partial(layout)

    def _is_partial(self, layout: Layout) -> bool:
        return sum(layout.layers) <= self.layers or layout.ram_experts > 0

    def _dense_of(self, start: int, end: int) -> Part:
        return _between(self._dense, start, end)

    def _experts_of(self, start: int, end: int) -> Part:
        return _between(self._experts, start, end)

    def _cache_of(self, start: int, end: int) -> int:
        last = min(end, self.layers)
        return self._cached[last] - self._cached[min(start, last)]


def _batch(info: GgufInfo, run: Run) -> Batch:
    """Return the batch that the engine's contexts reserve for (``engine.context``, ``engine.embedding``)."""
    tokens = min(run.batch_size, run.context_length)
    if info.embeds:
        return Batch(tokens, tokens, min(_EMBEDDED_TEXTS, tokens))
    sequences = min(run.sequences + SPARE_SEQUENCES, tokens)
    return Batch(tokens, sequences, sequences)


def _sums(parts: Iterable[Part]) -> list[Part]:
    return list(accumulate(parts, initial=Part()))


def _between(sums: Sequence[Part], start: int, end: int) -> Part:
    last = min(end, len(sums) - 1)
    before, upto = sums[min(start, last)], sums[last]
    return Part(upto.size - before.size, upto.repacked - before.repacked)
