"""Compute buffers: what llama.cpp reserves for the intermediate results of its largest batch.

The buffer is as large as the worst moment of the graph (ggml-alloc): one layer's feed-forward network or
experts, its attention, its recurrent states, or the logits. The formulas count the tensors that are alive at
these moments; the factors in them were fitted to what llama.cpp reserves for the shapes of
``bench.offload.shapes``, where they are off by at most 6 MiB on the CPU and 35 on a Vulkan device.
``bench.offload.accuracy`` measures it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kylin_gguf.gguf_info import GgufInfo
from kylin_gguf.offload.cache import Cache, convolved_width, padded, state_width

_FLOAT = 4
_MASK_BYTES = 2.25
"""A cell and token of the attention mask: half floats, and what is alive beside them."""


@dataclass(frozen=True)
class Batch:
    """The largest batch: its tokens, how many of them give logits, and sequences that a context has."""

    tokens: int
    outputs: int
    sequences: int


@dataclass(frozen=True)
class Compute:
    """Bytes of compute buffers.

    ``whole``: where all layers run. ``relayed``: in RAM, when accelerators run all layers and the batch only
    passes through; ``shared``: when they run some. ``lent``: on an accelerator that also computes long
    prompts for layers in RAM, whose weights are copied over for that. ``output``: the logits that are kept
    for the sampler, in RAM. ``pipelined``: more on each of several accelerators that run all layers, and
    ``relayed_pipelined``: in RAM beside them. llama.cpp then has four copies of what a device is given
    (GGML_SCHED_MAX_COPIES), so that one begins with a batch while the next has the one before.
    """

    whole: int
    relayed: int
    shared: int
    lent: int
    output: int
    pipelined: int
    relayed_pipelined: int


def compute(info: GgufInfo, batch: Batch, cache: Cache, context_length: int, largest: int) -> Compute:
    """Estimate the buffers for one batch. ``largest`` is the largest tensor of a layer, in bytes."""
    width = info.embedding_length
    cells = padded(context_length) if info.has_cache else batch.tokens
    mask = int(batch.tokens * cells * _MASK_BYTES)
    row = batch.tokens * _FLOAT
    logits = batch.outputs * info.vocab_size * _FLOAT
    computed = logits if info.has_cache else 0  # an encoder computes none, though there is room for them
    layer = max(_moments(info, batch))
    whole = max(layer + cache.masks * mask, computed + mask + int(1.5 * width * row))
    states = batch.sequences * state_width(info) * _FLOAT
    layer_cache = int(max(cache.per_cell, default=0) * cells)
    relayed = mask + 7 * width * row
    copied = largest + row * (2 * _inner(info) + 4 * width) + cache.masks * mask
    return Compute(
        whole=whole,
        relayed=relayed,
        shared=relayed + states,
        lent=max(whole, copied) + layer_cache,
        output=logits + (batch.outputs * width * _FLOAT if info.embeds else 0),
        pipelined=3 * cache.masks * mask + 6 * width * row,
        relayed_pipelined=3 * cache.masks * mask,
    )


def _moments(info: GgufInfo, batch: Batch) -> Iterator[int]:
    """Yield what is alive in one layer: while its network, its experts, its attention, its states work."""
    width, row = info.embedding_length, batch.tokens * _FLOAT
    yield int(row * (3 * _number(info, "feed_forward_length") + 5.6 * width))
    used = _number(info, "expert_used_count")
    if used:
        yield int(row * (2 * _inner(info) + 2 * used * width + 2.75 * width))
    heads = info.head_count
    head = width // heads if heads else 0
    attended = sum(_number(info, f"attention.{part}_length") or head for part in ("key", "value"))
    yield int(row * (2 * heads * attended + 3 * width))
    states = 2 * batch.sequences * state_width(info) * _FLOAT
    yield states + int(row * 4 * convolved_width(info)) if states else 0


def _inner(info: GgufInfo) -> int:
    """Return the width of the feed-forward network, or of all experts that one token uses."""
    used, each = _number(info, "expert_used_count"), _number(info, "expert_feed_forward_length")
    return used * each if used and each else _number(info, "feed_forward_length")


def _number(info: GgufInfo, key: str) -> int:
    """Return a count, the largest where each layer has its own; 0 where the file states none."""
    value = info.own(key)
    counts = value if isinstance(value, tuple) else (value,)
    return max((int(count) for count in counts if isinstance(count, int)), default=0)
