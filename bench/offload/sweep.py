"""The planner's choice against a sweep: how near does it come to the best that llama-bench finds?

    python -m bench.offload.sweep MODEL [--steps 8] [--prompt 256] [--answer 64] [--repeat 3]

Runs llama-bench, from the folder of the libraries that the engine uses, for numbers of threads and of layers
on the first GPU: none, all, ``--steps`` between them, and the planner's. Of each it reckons how long a chat
takes. Prints a table and what the planner's choice reaches of the best; exit status 1 where that is less than
0.97. Without a GPU only threads are swept. Several GPUs and experts in RAM are not. Needs an idle machine.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from kylin_gguf import config, gguf_info, native
from kylin_gguf.offload import machine
from kylin_gguf.offload.plan import Request, plan
from kylin_gguf.offload.speed import WORKLOADS
from kylin_gguf.records import Placement, Settings

BOUND = 0.97


@dataclass(frozen=True)
class Point:
    """One setting."""

    threads: int
    layers: int


@dataclass(frozen=True)
class Sizes:
    """Tokens of a prompt and of an answer, and how often both are measured."""

    prompt: int
    answer: int
    repeat: int


def measure(settings: Settings, model: Path, point: Point, device: str, sizes: Sizes) -> tuple[float, float]:
    """Return tokens a second of a prompt and of an answer (llama-bench's averages)."""
    tool = native.find(settings).tool("llama-bench")
    command = [tool, "-m", model, "-t", point.threads, "-p", sizes.prompt, "-n", sizes.answer]
    # As the engine does: a GPU that gets no layer is not used at all, and flash attention is on.
    where = ["-ngl", point.layers, "-dev", device] if point.layers else ["-ngl", 0, "-dev", "none"]
    command += [*where, "-fa", "1", "-r", sizes.repeat, "-o", "json"]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=True)
    speeds = {bool(run["n_prompt"]): float(run["avg_ts"]) for run in json.loads(done.stdout)}
    return speeds[True], speeds[False]


def points(placement: Placement, cores: int, steps: int, *, has_gpu: bool) -> list[Point]:
    """Return what to try, the planner's choice first."""
    threads = {1, max(cores // 2, 1), cores, placement.threads}
    everything = placement.layers + 1
    layers = {0}
    if has_gpu:
        layers |= {round(everything * step / (steps + 1)) for step in range(steps + 2)} | {
            placement.gpu_layers
        }
    chosen = Point(placement.threads, placement.gpu_layers)
    return [chosen, *(p for t in sorted(threads) for n in sorted(layers) if (p := Point(t, n)) != chosen)]


def main() -> int:
    """Sweep; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", type=Path)
    for name, usual in (("steps", 8), ("prompt", 256), ("answer", 64), ("repeat", 3)):
        parser.add_argument(f"--{name}", type=int, default=usual)
    asked = parser.parse_args()
    settings = config.load()
    found = machine.probe(settings)
    placement = plan(gguf_info.read(asked.model), found, Request.of(settings))
    if len(placement.shares) > 1 or placement.ram_experts:
        sys.exit("The planner uses several GPUs, or keeps experts in RAM: that is not swept here.")
    devices = [device.name for device in found.accelerators if not device.software]
    device = placement.shares[0].device if placement.shares else next(iter(devices), "none")
    sizes = Sizes(asked.prompt, asked.answer, asked.repeat)
    work = WORKLOADS["chat"]
    seconds: dict[Point, float] = {}
    for point in points(placement, found.cores, asked.steps, has_gpu=bool(devices)):
        prompt, answer = measure(settings, asked.model, point, device, sizes)
        seconds[point] = work.prompt / prompt + work.answer / answer
        print(
            f"{point.threads:3} threads {point.layers:3} layers {prompt:9.1f} {answer:8.1f} tokens/s"
            f" {seconds[point]:8.2f} s{'  planned' if len(seconds) == 1 else ''}",
            flush=True,
        )
    planned = next(iter(seconds.values()))
    reached = min(seconds.values()) / planned
    print(f"the planner's choice reaches {reached:.3f} of the best")
    return 0 if reached >= BOUND else 1


if __name__ == "__main__":
    sys.exit(main())
