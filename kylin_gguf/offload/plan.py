"""From model, machine and wishes to a placement: a pure function that can say why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kylin_gguf.gguf_info import GgufInfo
from kylin_gguf.offload.estimate import Estimator, Layout, Run
from kylin_gguf.offload.machine import Machine
from kylin_gguf.records import Device, KvType, LoadMode, Placement, Share
from kylin_gguf.translation import N_, translate

GPU_MARGIN = 512 * 1024 * 1024
"""Device memory left for the desktop's compositor and for what the estimate misses."""


@dataclass(frozen=True)
class Request:
    """What the user wants. ``threads`` 0, ``gpu_layers`` -1 and no ``mode``: as the planner chooses."""

    context_length: int
    sequences: int = 4
    threads: int = 0
    gpu_layers: int = -1
    mode: LoadMode | None = None
    kv_type: KvType = "f16"


def needed_memory(info: GgufInfo, context_length: int, kv_type: KvType, sequences: int) -> int:
    """Return the bytes of RAM that running ``info`` on the CPU takes."""
    run = Run(context_length, _batch_size(info, context_length), sequences, kv_type)
    return Estimator(info, run).memory(Layout()).ram.total


def plan(info: GgufInfo, machine: Machine, request: Request) -> Placement:
    """Place a model on a machine. The same input always gives the same placement."""
    trained = info.context_length or request.context_length
    length = min(request.context_length, trained)
    reasons = []
    if length < request.context_length:
        reasons.append(_say(N_("context shortened to {0} tokens: the model was trained for no more"), length))
    batch_size = _batch_size(info, length)
    run = Run(length, batch_size, request.sequences, request.kv_type)
    estimator = Estimator(info, run, machine.processor)
    share, reason = _share(estimator, machine, request.gpu_layers)
    reasons.append(reason)
    layers = (share.layers,) if share else ()
    mapped = estimator.memory(Layout(layers, repack=False))
    repacked = estimator.memory(Layout(layers))
    mode = request.mode or ("throughput" if repacked.ram.total <= machine.memory else "instant")
    chosen = repacked if mode == "throughput" else mapped
    reasons += _memory_reasons(chosen.ram.total, machine.memory)
    threads = request.threads or machine.cores
    reasons.append(_say(N_("{0} threads: one a core this process may use"), threads))
    return Placement(
        gpu_layers=sum(layers),
        context_length=length,
        threads=threads,
        batch_size=batch_size,
        sequences=request.sequences,
        mode=mode,
        kv_type=request.kv_type,
        memory=chosen.ram.total,
        layers=info.layers,
        shares=(share,) if share else (),
        reasons=tuple(reasons),
    )


def _batch_size(info: GgufInfo, length: int) -> int:
    """Return llama.cpp's n_batch: a pooling is taken over the tokens of one batch, so a whole text has to
    fit, except where the last token's vector is the text's and each token sees only those before it."""
    in_parts = info.pooling == "last" and info.own("attention.causal") is not False
    return length if info.embeds and not in_parts else Placement.batch_size


def _share(estimator: Estimator, machine: Machine, wanted: int) -> tuple[Share | None, str]:
    """Choose what goes to the accelerator with the most free memory, and say why."""
    gpus = [device for device in machine.devices if device.kind in ("gpu", "igpu")]
    if not gpus:
        return None, translate(N_("on the CPU: no GPU back end found a device"))
    best: Device = max(gpus, key=lambda device: (device.memory_free, device.name))
    room = max(best.memory_free - GPU_MARGIN, 0)
    everything = estimator.layers + 1
    layers = min(wanted, everything) if wanted >= 0 else everything

    def needed(count: int) -> int:
        return estimator.memory(Layout((count,))).devices[0].total if count else 0

    while wanted < 0 and needed(layers) > room:
        layers -= 1
    share = Share(best.name, layers, needed(layers)) if layers else None
    if layers == everything:
        return share, _say(N_("all layers on {0}: {1} MiB fit"), best.description, needed(layers) >> 20)
    reason = N_("{0} of {1} layers on {2}: {3} MiB of {4} MiB are free there")
    return share, _say(reason, layers, everything, best.description, room >> 20, needed(everything) >> 20)


def _memory_reasons(in_ram: int, available: int) -> Iterator[str]:
    if in_ram > available:
        reason = N_(
            "slow: {0} MiB needed and {1} MiB free, so weights will be read from disk again and again"
        )
        yield _say(reason, in_ram >> 20, available >> 20)


def _say(template: str, *values: object) -> str:
    return translate(template).format(*values)
