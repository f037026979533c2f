"""What would the planner do on the desktops of bench/data/machines.yaml?

    python -m bench.offload.simulated MODEL [MODEL ...] [--ctx 4096]

MODEL is a GGUF, or the name of one of ``bench.offload.shapes``. Prints a table: nothing is run, and the
speeds are the planner's expectations.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import yaml

from bench.offload import shapes
from kylin_gguf import gguf_info
from kylin_gguf.offload.machine import Machine
from kylin_gguf.offload.machine_file import parse
from kylin_gguf.offload.plan import Request, plan

MACHINES = Path(__file__).parents[1] / "data" / "machines.yaml"
GIB = 1 << 30


def machines() -> dict[str, Machine]:
    """Return the simulated machines by name."""
    described = yaml.safe_load(MACHINES.read_text(encoding="utf-8"))
    return {name: parse(content, f"{MACHINES.name}: {name}") for name, content in described.items()}


def rows(path: Path, context: int) -> Iterator[str]:
    """Yield a line a machine."""
    info = gguf_info.read(path)
    for name, machine in machines().items():
        found = plan(info, machine, Request(context, sequences=8))
        where = " + ".join(f"{share.device} {share.layers}" for share in found.shares) or "CPU"
        where += f" of {info.layers + 1}" if found.shares and found.gpu_layers <= info.layers else ""
        where += f", experts of {found.ram_experts} in RAM" if found.ram_experts else ""
        sizes = " + ".join(f"{share.memory / GIB:.1f}" for share in found.shares)
        yield (
            f"{name:30} {where:36} {found.memory / GIB:5.1f} GiB RAM {sizes:>11}"
            f" {found.decode:7.1f} {found.prompt:8.0f}  {found.mode}"
        )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--ctx", type=int, default=4096)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kylin-gguf-shapes-") as scratch:
        for model in chosen.models:
            make = shapes.SHAPES.get(model)
            path = shapes.write(make(), Path(scratch) / f"{model}.gguf") if make else Path(model)
            print(f"\n{path.name}, {chosen.ctx} tokens of context; tokens/s of an answer and of a prompt")
            print(*rows(path, chosen.ctx), sep="\n")


if __name__ == "__main__":
    main()
