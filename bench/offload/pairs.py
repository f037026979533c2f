"""Plan for thousands of random pairs of a machine and a model: never over budget, and how long it takes.

    python -m bench.offload.pairs [--count 10000] [--seed 1]

The pairs are drawn like those of the tests; each is planned twice, and once more with more memory. Prints how
long a plan took; exit status 1 when a property does not hold, or a plan took more than 50 ms of processor
time. Numpy's own threads are turned off, so that processor time is what a plan takes on an idle machine.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import sys
import time
from dataclasses import replace

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from kylin_gguf.gguf_info import GgufInfo
from kylin_gguf.offload.machine import GPU_MARGIN, Machine
from kylin_gguf.offload.plan import RAM_SHARE, Request, plan
from kylin_gguf.offload.speed import WORKLOADS
from kylin_gguf.records import Device, Placement
from tests.unit.offload.random_pairs import GIB, model

LIMIT_S = 0.05


def draw(chance: random.Random) -> tuple[GgufInfo, Machine, Request]:
    """Return one pair and a request. Sizes are drawn by their logarithm: most models are small."""

    def size(least: int, most: int) -> int:
        return int(math.exp(chance.uniform(math.log(least), math.log(most))))

    info = model(
        chance.randint(1, 100),
        size(1 << 20, GIB),
        chance.choice([512, 1024, 2048, 4096, 8192]),
        chance.choice([0, 0, 8, 128]),
        chance.choice(["Q4_K", "Q6_K", "F16"]),
    )
    devices = tuple(
        Device(
            f"GPU{number}",
            chance.choice(["a card", "another card"]),
            chance.choice(["gpu", "gpu", "igpu"]),
            48 * GIB,
            size(1 << 20, 48 * GIB),
            chance.choice([0.0, 3e10, 2.5e11, 1e12]),
            chance.choice([0.0, 1e12, 4e13]),
        )
        for number in range(chance.choice([0, 1, 1, 1, 2, 2, 3]))
    )
    found = Machine(chance.randint(1, 64), size(GIB // 2, 256 * GIB), devices, processor="cpu-zen4")
    return info, found, Request(size(128, 1 << 17), use=chance.choice([*WORKLOADS]))


def problems(info: GgufInfo, found: Machine, request: Request, placement: Placement) -> list[str]:
    """Return which properties do not hold."""
    broken = []
    free = {device.name: device.memory_free for device in found.devices}
    if any(share.memory > free[share.device] - GPU_MARGIN for share in placement.shares):
        broken.append("over a device's budget")
    shared = {device.name for device in found.devices if device.kind == "igpu"}
    in_ram = placement.memory + sum(share.memory for share in placement.shares if share.device in shared)
    if placement.fits and in_ram > RAM_SHARE * found.memory:
        broken.append("over the budget of RAM")
    if placement != plan(info, found, request):
        broken.append("another plan the second time")
    grown = replace(
        found,
        memory=found.memory + GIB,
        devices=tuple(replace(device, memory_free=device.memory_free + GIB) for device in found.devices),
    )
    # Speeds are rounded.
    limit = 1.001 * _seconds(placement, request) + 0.01
    if placement.fits and _seconds(plan(info, grown, request), request) > limit:
        broken.append("slower with more memory")
    return broken


def _seconds(placement: Placement, request: Request) -> float:
    work = WORKLOADS[request.use]
    return work.prompt / max(placement.prompt, 1e-3) + work.answer / max(placement.decode, 1e-3)


def main() -> int:
    """Plan them all; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    chance = random.Random(chosen.seed)
    took, broken, spread = [], 0, 0
    for number in range(chosen.count):
        info, found, request = draw(chance)
        began = time.process_time()
        placement = plan(info, found, request)
        took.append(time.process_time() - began)
        spread += placement.gpu_layers > 0
        for problem in problems(info, found, request, placement):
            broken += 1
            print(f"pair {number}: {problem}: {found}, {request}, {info.layers} layers")
    took.sort()
    slow = sum(seconds > LIMIT_S for seconds in took)
    print(
        f"{chosen.count} pairs, {spread} with a GPU in use: {broken} broken properties; a plan took "
        f"{took[len(took) // 2] * 1000:.1f} ms in the median, {took[-1] * 1000:.1f} ms at most, "
        f"{slow} more than {LIMIT_S * 1000:.0f} ms"
    )
    return 1 if broken or slow else 0


if __name__ == "__main__":
    sys.exit(main())
