"""From model, machine and wishes to a placement: a pure function that can say why.

The KV cache's size is exact for dense attention; recurrent and sliding-window layers need less than is
counted here, which errs on the side that works.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kylin_gguf.gguf_info import GgufInfo
from kylin_gguf.offload.machine import Machine
from kylin_gguf.records import Device, KvType, LoadMode, Placement
from kylin_gguf.translation import N_, translate

GPU_MARGIN = 512 * 1024 * 1024
"""Device memory left for the desktop's compositor and llama.cpp's compute buffers."""

COMPUTE_MARGIN = 256 * 1024 * 1024
"""RAM for compute buffers and the interpreter."""

_KV_BYTES: dict[KvType, float] = {"f16": 2.0, "q8_0": 34 / 32}  # q8_0: 34 bytes for 32 values
_LOGIT_BYTES = 4  # float32
_ALL_LAYERS = -1  # llama_model_params.n_gpu_layers: a negative value means all


@dataclass(frozen=True)
class Request:
    """What the user wants. ``threads`` 0, ``gpu_layers`` -1 and no ``mode``: as the planner chooses."""

    context_length: int
    sequences: int = 4
    threads: int = 0
    gpu_layers: int = -1
    mode: LoadMode | None = None
    kv_type: KvType = "f16"


def kv_bytes(info: GgufInfo, context_length: int, kv_type: KvType = "f16") -> int:
    """Return the bytes of a KV cache for ``context_length`` tokens; 0 for a model without one."""
    if not info.has_cache:
        return 0
    heads = info.head_count_kv or (info.head_count,)
    per_layer = heads if len(heads) == info.layers else heads[:1] * info.layers
    head_size = info.embedding_length // info.head_count if info.head_count else 0
    sizes = [info.own(f"attention.{part}_length") for part in ("key", "value")]
    width = sum(size if isinstance(size, int) else head_size for size in sizes)
    return int(sum(per_layer) * width * context_length * _KV_BYTES[kv_type])


def output_bytes(info: GgufInfo, context_length: int) -> int:
    """Return the bytes of one batch's logits, where they are more than a margin covers.

    In a model that embeds, every token of a batch is an output, and llama.cpp reserves and clears room for
    its logits (llama_context::output_reserve). A decoder also computes them, though nobody reads them.
    """
    if not info.embeds:
        return 0
    copies = 2 if info.has_cache else 1
    return copies * _batch_size(info, context_length) * info.vocab_size * _LOGIT_BYTES


def needed_memory(info: GgufInfo, context_length: int, kv_type: KvType = "f16") -> int:
    """Return the bytes that running ``info`` takes, wherever they lie."""
    buffers = kv_bytes(info, context_length, kv_type) + output_bytes(info, context_length)
    return info.tensor_bytes + buffers + COMPUTE_MARGIN


def plan(info: GgufInfo, machine: Machine, request: Request) -> Placement:
    """Place a model on a machine. The same input always gives the same placement."""
    trained = info.context_length or request.context_length
    length = min(request.context_length, trained)
    reasons = []
    if length < request.context_length:
        reasons.append(_say(N_("context shortened to {0} tokens: the model was trained for no more"), length))
    gpu_layers = request.gpu_layers
    if gpu_layers < 0:
        buffers = kv_bytes(info, length, request.kv_type) + output_bytes(info, length)
        gpu_layers, reason = _gpu_layers(info, machine, buffers)
        reasons.append(reason)
    in_ram = 0 if gpu_layers == _ALL_LAYERS else needed_memory(info, length, request.kv_type)
    # A repacked copy of the weights lies beside the mapped file.
    room_for_copy = in_ram + info.tensor_bytes <= machine.memory
    mode = request.mode or ("throughput" if room_for_copy else "instant")
    reasons += _memory_reasons(in_ram, machine.memory, room_for_copy)
    threads = request.threads or machine.cores
    reasons.append(_say(N_("{0} threads: one a core this process may use"), threads))
    return Placement(
        gpu_layers=gpu_layers,
        context_length=length,
        threads=threads,
        batch_size=_batch_size(info, length),
        sequences=request.sequences,
        mode=mode,
        kv_type=request.kv_type,
        memory=in_ram + (info.tensor_bytes if mode == "throughput" and in_ram else 0),
        reasons=tuple(reasons),
    )


def _batch_size(info: GgufInfo, length: int) -> int:
    """Return llama.cpp's n_batch: a pooling is taken over the tokens of one batch, so a whole text has to
    fit, except where the last token's vector is the text's and each token sees only those before it."""
    in_parts = info.pooling == "last" and info.own("attention.causal") is not False
    return length if info.embeds and not in_parts else Placement.batch_size


def _gpu_layers(info: GgufInfo, machine: Machine, buffers: int) -> tuple[int, str]:
    """Choose how many layers go to the accelerator with the most free memory, and say why."""
    gpus = [device for device in machine.devices if device.kind in ("gpu", "igpu")]
    if not gpus:
        return 0, translate(N_("on the CPU: no GPU back end found a device"))
    best: Device = max(gpus, key=lambda device: (device.memory_free, device.name))
    room = max(best.memory_free - GPU_MARGIN, 0)
    whole = info.tensor_bytes + buffers
    if whole <= room:
        return _ALL_LAYERS, _say(N_("all layers on {0}: {1} MiB fit"), best.description, whole >> 20)
    per_layer = whole // max(info.layers, 1)
    layers = min(room // max(per_layer, 1), info.layers)
    reason = N_("{0} of {1} layers on {2}: {3} MiB of {4} MiB are free there")
    return layers, _say(reason, layers, info.layers, best.description, room >> 20, whole >> 20)


def _memory_reasons(in_ram: int, available: int, room_for_copy: bool) -> Iterator[str]:
    if in_ram > available:
        reason = N_(
            "slow: {0} MiB needed and {1} MiB free, so weights will be read from disk again and again"
        )
        yield _say(reason, in_ram >> 20, available >> 20)
    elif not room_for_copy:
        yield translate(N_("weights mapped, not repacked: there is no room for a second copy"))


def _say(template: str, *values: object) -> str:
    return translate(template).format(*values)
