"""How fast do two builds of llama.cpp compute the same models?

    python -m bench.builds DIRECTORY --patches "NNNN ..." --model NAME... [--variant NAME] [--threads N]
        [--prompts N,...] [--depths N,...]

Has the llama-bench of the build in use and the one in ``DIRECTORY``, a build of the same llama.cpp with other
patches, measure the same by turns. If not told otherwise: a prompt of 512 tokens, 4 tokens at once (a stream
and a part of a prompt, or a token and guesses at the next), 8 (as many clients), and decoding, each in an
empty context and after 2,000 tokens. Both take the CPU library that llama.cpp chooses, or the one given.
Writes bench/results/MACHINE/builds.json, or builds-VARIANT.json, and prints medians and ratios as a table.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import record
from bench.cpu_variants import alone
from kylin_gguf import catalogue, config, native
from kylin_gguf.records import InstalledModel
from kylin_gguf.store import Store

DECODED = 32

Speeds = dict[str, list[float]]
"""By what was measured: tokens per second of each round."""


@dataclass(frozen=True)
class Conditions:
    """Tokens at once and in the context, comma-separated as llama-bench takes them, and threads."""

    prompts: str
    depths: str
    threads: int


def speeds(directory: Path, model: InstalledModel, under: Conditions) -> dict[str, float]:
    """Return the tokens per second of everything measured, once, by the build in ``directory``.

    Raises:
        subprocess.CalledProcessError: llama-bench failed.
    """
    wanted = ["-p", under.prompts, "-n", DECODED, "-d", under.depths]
    command = [directory / "llama-bench", "-m", model.path, "-t", under.threads, "-fa", 1, "-r", 3, *wanted]
    done = subprocess.run([*map(str, command), "-o", "json"], stdout=subprocess.PIPE, check=True)
    found = {}
    for item in json.loads(done.stdout):
        what = f"{item['n_prompt']} at once" if item["n_prompt"] else "decode"
        found[f"{what}, after {item['n_depth']:,}"] = round(statistics.median(item["samples_ts"]), 2)
    return found


def measure(
    builds: dict[str, Path], model: InstalledModel, under: Conditions, rounds: int
) -> dict[str, Speeds]:
    """Return by build what was measured, the builds by turns."""
    found: dict[str, Speeds] = {name: {} for name in builds}
    for turn in range(rounds):
        for name in builds if turn % 2 == 0 else reversed(builds):
            for what, speed in speeds(builds[name], model, under).items():
                found[name].setdefault(what, []).append(speed)
        print(f"{model.name}: round {turn + 1} of {rounds}", file=sys.stderr)
    return found


def table(models: dict[str, dict[str, Speeds]]) -> str:
    """Return medians in Markdown, tokens per second there and here, and the ratio of each round's median."""
    lines = ["| model | tokens | there | here | ratio |", "|---|---|--:|--:|--:|"]
    for name, found in models.items():
        for what, theirs in found["there"].items():
            there, here = statistics.median(theirs), statistics.median(found["here"][what])
            lines.append(f"| {name} | {what} | {there:.0f} | {here:.0f} | {here / there:.2f} |")
    return "\n".join(lines)


def arguments() -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(description="Compare the speed of two builds of llama.cpp.")
    parser.add_argument("directory", type=Path, help="the other build")
    parser.add_argument("--patches", required=True, help="which patches the other build has, for the record")
    parser.add_argument("--model", action="append", required=True, help="may be given more than once")
    parser.add_argument("--variant", help="the CPU library of both builds, such as haswell")
    parser.add_argument("--prompts", default="512,4,8", help="tokens at once (default: %(default)s)")
    parser.add_argument("--depths", default="0,2000", help="tokens in the context (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


def main() -> int:
    """Run the command line; return the exit status."""
    chosen = arguments()
    settings = config.load()
    store = Store(settings, catalogue.load(settings.catalogue))
    models = [store.resolve(name) for name in chosen.model]
    builds = {"there": chosen.directory.resolve(), "here": native.find(settings).directory}
    with tempfile.TemporaryDirectory(prefix="kylin-gguf-bench-") as scratch:
        if chosen.variant:
            builds = {name: alone(path, chosen.variant, Path(scratch, name)) for name, path in builds.items()}
        under = Conditions(chosen.prompts, chosen.depths, chosen.threads)
        speeds_of = {model.name: measure(builds, model, under, chosen.rounds) for model in models}
    written: dict[str, Any] = {
        "taken": record.now(),
        "machine": record.machine(),
        "versions": record.versions(),
        "conditions": {
            "threads": chosen.threads,
            "rounds": chosen.rounds,
            "patches there": chosen.patches,
            "variant": chosen.variant,
        },
        "models": [record.describe(model) for model in models],
        "speeds": speeds_of,
    }
    name = f"builds-{chosen.variant}.json" if chosen.variant else "builds.json"
    path = record.folder(written["machine"]) / name
    path.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
    print(f"{table(written['speeds'])}\n\nwritten to {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
