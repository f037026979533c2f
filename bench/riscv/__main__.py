"""Count the instructions that a token costs each RISC-V variant, for each quantisation.

    python -m bench.riscv --qemu QEMU [--types Q4_0,Q8_0] [--vlen 256]

QEMU is a qemu-riscv64 of version 8.1 or newer that was built with plug-ins: Debian's of these versions are
static and have none. Needs presets cpu and riscv64 in build/native, cc, and Debian's libc6-riscv64-cross and
libstdc++6-riscv64-cross. One thread, so that none spins. Writes bench/results/qemu-riscv64-vlen*.json and
prints a table. The counts say how much work a variant saves, not how fast a board is: vector
instructions take longer.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench import record
from bench.cpu_variants import alone
from bench.riscv import synthetic

HERE = Path(__file__).parent
NATIVE = HERE.parents[1] / "build" / "native"
SYSROOT = "/usr/riscv64-linux-gnu"
TYPES = ("Q4_0", "Q4_K", "Q6_K", "Q8_0")
TOKENS = (1, 4)
"""A run of either length: the difference leaves loading and start-up out."""

PROCESSORS = {
    "riscv64_0": "rv64,v=false",
    "riscv64_v": "rv64,v=true,vlen={vlen}",
    "riscv64_v_zvfh": "rv64,v=true,vlen={vlen},zfh=true,zvfh=true",
}
"""The plainest processor that has what a variant needs."""


def processor(variant: str, vlen: int) -> str:
    """Return qemu's name for the processor for ``variant`` with vectors of ``vlen`` bits."""
    return PROCESSORS[variant].format(vlen=vlen)


class Machine:
    """qemu with the plug-in that counts."""

    def __init__(self, qemu: str, scratch: Path, vlen: int) -> None:
        self._qemu, self._vlen = qemu, vlen
        self._plugin = scratch / "count_instructions.so"
        command = ["cc", "-O2", "-shared", "-fPIC", "-o", self._plugin, HERE / "count_instructions.c"]
        subprocess.run([*map(str, command)], check=True)

    def run(self, variant: str, command: list[Any]) -> subprocess.CompletedProcess[str]:
        """Run ``command`` on a processor for ``variant``."""
        qemu = [self._qemu, "-cpu", processor(variant, self._vlen), "-L", SYSROOT, "-plugin", self._plugin]
        return subprocess.run([*map(str, [*qemu, *command])], capture_output=True, text=True, check=True)

    def per_token(self, variant: str, tools: Path, model: Path) -> int:
        """Return how many instructions one more decoded token costs."""
        counts = []
        for tokens in TOKENS:
            command = [tools / "llama-bench", "-m", model, "-t", 1, "-p", 0, "-n", tokens, "-r", 1]
            said = self.run(variant, [*command, "--no-warmup"]).stderr
            counts.append(int(re.findall(r"^instructions: (\d+)$", said, re.M)[-1]))
        return (counts[1] - counts[0]) // (TOKENS[1] - TOKENS[0])

    def chosen(self, variant: str) -> str:
        """Return the variant that llama.cpp chooses by itself on the processor for ``variant``."""
        said = self.run(variant, [NATIVE / "riscv64" / "llama-bench", "--list-devices"]).stderr
        return str(re.findall(r"loaded CPU backend from \S*/libggml-cpu-(\w+)\.so", said)[-1])


def measure(machine: Machine, scratch: Path, types: list[str]) -> dict[str, dict[str, int]]:
    """Return instructions a token for each type and variant."""
    plain = scratch / "f16.gguf"
    synthetic.write(plain)
    found: dict[str, dict[str, int]] = {}
    for kind in types:
        model = scratch / f"{kind}.gguf"
        quantize = [NATIVE / "cpu" / "llama-quantize", "--pure", plain, model, kind]
        subprocess.run([*map(str, quantize)], check=True, capture_output=True)
        found[kind] = {}
        for variant in PROCESSORS:
            tools = scratch / variant
            if not tools.exists():
                alone(NATIVE / "riscv64", variant, tools)
            found[kind][variant] = machine.per_token(variant, tools, model)
            print(f"{kind} {variant}: {found[kind][variant]:,}", file=sys.stderr, flush=True)
    return found


def table(found: dict[str, dict[str, int]]) -> str:
    """Return the counts in Markdown, and what share of rv64gc's they are."""
    lines = ["| type | " + " | ".join(PROCESSORS) + " |", "|---|" + "--:|" * len(PROCESSORS)]
    for kind, counts in found.items():
        cells = [f"{n / 1e6:.1f} M ({n / counts['riscv64_0']:.3f})" for n in counts.values()]
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description="Count RISC-V instructions per token under qemu.")
    parser.add_argument("--qemu", default="qemu-riscv64")
    parser.add_argument("--types", default=",".join(TYPES))
    parser.add_argument("--vlen", type=int, default=256)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kylin-gguf-bench-") as directory:
        scratch = Path(directory)
        machine = Machine(asked.qemu, scratch, asked.vlen)
        chosen = {variant: machine.chosen(variant) for variant in PROCESSORS}
        found = measure(machine, scratch, asked.types.split(","))
    version = subprocess.run([asked.qemu, "--version"], capture_output=True, text=True, check=True).stdout
    written = {
        "taken": record.now(),
        "versions": {**record.versions(), "qemu": version.partition("\n")[0]},
        "conditions": {"threads": 1, "vlen": asked.vlen, "model": synthetic.__doc__, "tokens": TOKENS},
        "chosen": {processor(variant, asked.vlen): choice for variant, choice in chosen.items()},
        "instructions_per_token": found,
    }
    path = record.RESULTS / f"qemu-riscv64-vlen{asked.vlen}.json"
    path.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
    print(table(found))
    for variant, choice in chosen.items():
        print(f"\n{processor(variant, asked.vlen)}: chooses {choice}")
    return 0 if all(variant == choice for variant, choice in chosen.items()) else 1


if __name__ == "__main__":
    sys.exit(main())
