"""The planner's choice against a sweep: how near does it come to the best that llama-bench finds?

    python -m bench.offload.sweep MODEL [MODEL ...] [--device DEVICE[,DEVICE]] [--steps 8] [--prompt 256]
                                  [--answer 64] [--rounds 5] [--priority 0]

Runs llama-bench, from the folder of the libraries that the engine uses: on the processor with numbers of
threads, with and without repacked weights where any are; with --device also with layers on those devices
together, all, ``--steps`` numbers between none and all, and the planner's. Every round runs each once, every
other one backwards. The planner is not told of --device: what it chooses by itself is held against what
somebody would find who tries. RPC workers are those of the setting ``rpc_workers``. Of each point a chat's
time is reckoned from the medians.

Prints a table and what the planner's choice reaches of the best, and writes
bench/results/MACHINE/offload-sweep-BACKEND.json; exit status 1 where it reaches less than 0.97. Experts in
RAM and splits other than llama.cpp's own are not swept. Needs an idle machine; where there is none,
--priority 5 has everything else stand still while llama-bench runs (chrt --fifo), for which it needs root.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median

from bench import record
from kylin_gguf import config, gguf_info, native, rpc
from kylin_gguf.engine import environment
from kylin_gguf.gguf_info import GgufInfo
from kylin_gguf.offload import machine
from kylin_gguf.offload.plan import Request, plan
from kylin_gguf.offload.speed import WORKLOADS
from kylin_gguf.offload.weights import weights
from kylin_gguf.records import Placement, Settings

BOUND = 0.97


@dataclass(frozen=True)
class Point:
    """One setting."""

    threads: int
    layers: int = 0
    repack: bool = False
    devices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sizes:
    """Tokens of a prompt and of an answer, rounds, and llama-bench's real-time priority, 0 for none."""

    prompt: int
    answer: int
    rounds: int
    priority: int = 0


@dataclass
class Speeds:
    """Tokens a second of a prompt and of an answer, a round each."""

    prompt: list[float] = field(default_factory=list)
    answer: list[float] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """How long a chat takes."""
        work = WORKLOADS["chat"]
        return work.prompt / median(self.prompt) + work.answer / median(self.answer)


def measure(settings: Settings, model: Path, point: Point, sizes: Sizes) -> tuple[float, float]:
    """Return tokens a second of a prompt and of an answer, each measured once after a warm-up."""
    tool = native.find(settings).tool("llama-bench")
    command = ["chrt", "--fifo", sizes.priority] if sizes.priority else []
    command += [tool, "-m", model, "-t", point.threads, "-p", sizes.prompt, "-n", sizes.answer]
    if point.layers and settings.rpc_workers:
        command += ["-rpc", ",".join(settings.rpc_workers)]  # before their devices are named
    # As the engine does: a device that gets no layer is not used at all, and flash attention is on.
    command += ["-ngl", point.layers, "-dev", "/".join(told(point.devices)) or "none"]
    command += ["--repack", int(point.repack), "-fa", "1", "-r", "1", "-o", "json"]
    like_a_worker = environment.for_worker(os.environ, settings.native_dirs)
    done = subprocess.run(
        [*map(str, command)], env=like_a_worker, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stderr[-2000:]}")
    speeds = {bool(run["n_prompt"]): float(run["avg_ts"]) for run in json.loads(done.stdout)}
    return speeds[True], speeds[False]


def told(devices: Sequence[str]) -> list[str]:
    """Return the names of ``devices`` as llama-bench has them, which counts those of RPC workers."""
    counted = iter(range(len(devices)))
    return [f"RPC{next(counted)}" if rpc.named(name) else name for name in devices]


def repacks(info: GgufInfo, processor: str) -> bool:
    """Return whether any weight would be repacked: else with and without is the same."""
    found = weights(info, processor)
    return any(part.repacked for part in (*found.dense, *found.experts, found.output))


def points(
    placement: Placement, cores: int, layers: Sequence[int], devices: tuple[str, ...], *, repacking: bool
) -> list[Point]:
    """Return what to try, the planner's choice first; ``layers`` are numbers of them on ``devices``."""
    planned = Point(
        placement.threads,
        placement.gpu_layers,
        placement.mode == "throughput" and repacking,
        tuple(share.device for share in placement.shares),
    )
    numbers = sorted({1, max(cores // 2, 1), cores, os.cpu_count() or 1, placement.threads})
    ways = (False, True) if repacking else (False,)
    found = [Point(threads, repack=repack) for threads in numbers for repack in ways]
    found += [Point(placement.threads, count, devices=devices) for count in layers]
    return [planned, *(point for point in found if point != planned)]


def reached(measured: Mapping[Point, Speeds]) -> float:
    """Return which share of the best one's speed the first has."""
    planned = next(iter(measured.values()))
    return min(speeds.seconds for speeds in measured.values()) / planned.seconds


def sweep(settings: Settings, model: Path, tried: Sequence[Point], sizes: Sizes) -> dict[Point, Speeds]:
    """Measure one model at every point, by turns."""
    measured = {point: Speeds() for point in tried}
    for number in range(sizes.rounds):
        for point in tried if number % 2 == 0 else reversed(tried):
            prompt, answer = measure(settings, model, point, sizes)
            measured[point].prompt.append(prompt)
            measured[point].answer.append(answer)
    return measured


def show(model: Path, measured: Mapping[Point, Speeds]) -> None:
    """Print medians and what the first, the planner's choice, reaches."""
    print(model.name)
    for number, (point, speeds) in enumerate(measured.items()):
        where = f"{point.layers} layers on {' and '.join(point.devices)}" if point.layers else "processor"
        print(
            f"{point.threads:3} threads, {where}{', repacked' if point.repack else ''}:"
            f" {median(speeds.prompt):.1f} and {median(speeds.answer):.1f} tokens/s,"
            f" {speeds.seconds:.2f} s{'' if number else '  planned'}"
        )
    print(f"the planner's choice reaches {reached(measured):.3f} of the best", flush=True)


def main() -> int:
    """Sweep; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--device", default="")
    for name, usual in (
        ("steps", 8),
        ("prompt", 256),
        ("answer", 64),
        ("rounds", 5),
        ("priority", 0),
    ):
        parser.add_argument(f"--{name}", type=int, default=usual)
    asked = parser.parse_args()
    settings = replace(config.load(), device="")
    found = machine.probe(settings)
    devices = tuple(filter(None, asked.device.split(",")))
    if absent := set(devices) - {device.name for device in found.accelerators}:
        sys.exit(f"There is no device {', '.join(sorted(absent))}.")
    sizes = Sizes(asked.prompt, asked.answer, asked.rounds, asked.priority)
    measured_on = record.machine()  # before this adds to the load
    results = {}
    for model in asked.models:
        info = gguf_info.read(model)
        placement = plan(info, found, Request.of(settings))
        if len(placement.shares) > 1 or placement.ram_experts:
            sys.exit("The planner uses several GPUs, or keeps experts in RAM: that is not swept here.")
        everything, steps = placement.layers + 1, asked.steps + 1 if devices else 0
        layers = sorted({round(everything * step / steps) for step in range(1, steps + 1)})
        repacking = repacks(info, found.processor)
        tried = points(placement, found.cores, layers, devices, repacking=repacking)
        results[model] = sweep(settings, model, tried, sizes)
        show(model, results[model])
    _write(devices, sizes, measured_on, results)
    return 0 if all(reached(measured) >= BOUND for measured in results.values()) else 1


def _write(
    devices: Sequence[str],
    sizes: Sizes,
    measured_on: Mapping[str, object],
    results: Mapping[Path, Mapping[Point, Speeds]],
) -> None:
    backend = devices[0].partition("[")[0].rstrip("0123456789").lower() if devices else "cpu"
    content = {
        "taken": record.now(),
        "machine": measured_on,
        "versions": record.versions(),
        "tokens": {"prompt": sizes.prompt, "answer": sizes.answer},
        "real_time_priority": sizes.priority,
        "models": {
            model.name: [asdict(point) | asdict(speeds) for point, speeds in measured.items()]
            for model, measured in results.items()
        },
    }
    path = record.folder(measured_on) / f"offload-sweep-{backend}.json"
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
