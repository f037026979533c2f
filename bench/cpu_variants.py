"""Force each CPU variant of llama.cpp that this processor can run: how alike are they, and how fast?

    python -m bench.cpu_variants [--model NAME] [--threads N] [--rounds N]

Every variant gets a folder with the core and itself alone, so that nothing else can be chosen. The text
is the engine's, greedy; the divergence from the variant that llama.cpp chooses by itself, over text that
the converter holds out, from llama-perplexity; the speeds from llama-bench, in turns. x86's compute alike
(patches 0011 and 0013). Others add numbers up in different orders, so texts part where two tokens are about
equally likely; the divergence says how far. The same with weights of 32 bits, for which activations are not
rounded to 8 bits, says what of it is the order alone. Writes bench/results/MACHINE/cpu-variants.json and
prints a table. Exit status 1 when one strays too far: on x86, when it says anything else.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench import record
from bench.divergence import Probe, Way, divergence, write_base, write_exact
from kylin_gguf import catalogue, config, native
from kylin_gguf.errors import LibraryLoadFailed
from kylin_gguf.pool import EnginePool
from kylin_gguf.records import InstalledModel, Settings
from kylin_gguf.sessions import Session
from kylin_gguf.store import Store

PROMPT = "Why is the sky blue? Explain it to a child."
TOKENS = 64
BOUND = 0.01
"""Mean divergence (Kullback-Leibler, in nats) that still counts as rounding."""

_PROBE = Probe(
    Path(__file__).parents[1] / "convert" / "kylin_convert" / "corpus" / "held-out-en.txt", pieces=4
)
_PREFIX = "libggml-cpu-"


def alone(directory: Path, variant: str, target: Path) -> Path:
    """Fill ``target`` with what ``directory`` holds, except for all CPU variants but ``variant``."""
    target.mkdir()
    for path in directory.iterdir():
        if path.name.startswith(_PREFIX) and path.name != f"{_PREFIX}{variant}.so":
            continue
        if path.name.startswith("llama-"):
            shutil.copy2(path, target)  # a tool looks for plug-ins where its file is, not where the link is
        else:
            (target / path.name).symlink_to(path)
    return target


async def greedy_text(settings: Settings, model: InstalledModel) -> str:
    """Return the engine's greedy answer to the prompt.

    Raises:
        KylinError: there is none; LibraryLoadFailed where no variant suits the processor.
    """
    pool = EnginePool(settings)
    try:
        options = {"prompt": PROMPT, "temperature": 0.0, "max_tokens": TOKENS}
        generation = await Session(model, pool.acquire).generate(options)
        with generation.stream:
            outcome = await generation.finished
    finally:
        await pool.close()
    if outcome.error:
        raise outcome.error
    return outcome.text


@dataclass(frozen=True)
class Kept:
    """Weights, and the file with what the variant that llama.cpp chooses computes with them."""

    model: InstalledModel
    base: Path


def compare(settings: Settings, directory: Path, weights: Kept) -> dict[str, Any]:
    """Return the text of the variant in ``directory``, and how far its numbers are from those kept.

    Raises:
        LibraryLoadFailed: the variant does not suit the processor.
    """
    text = asyncio.run(greedy_text(replace(settings, native_dirs=(directory,)), weights.model))
    return {"text": text, "divergence": divergence(Way(directory, weights.model.path), _PROBE, weights.base)}


def speeds(directory: Path, model: InstalledModel, threads: int) -> dict[str, float]:
    """Return llama-bench's tokens per second for a prompt and for decoding."""
    command = [directory / "llama-bench", "-m", model.path, "-t", threads, "-p", 128, "-n", 32, "-r", 1]
    done = subprocess.run([*map(str, command), "-o", "json"], capture_output=True, text=True, check=True)
    results = json.loads(done.stdout)
    return {"prompt" if item["n_prompt"] else "decode": round(item["avg_ts"], 2) for item in results}


def measure(settings: Settings, model: InstalledModel, threads: int, rounds: int) -> dict[str, Any]:
    """Return what each variant said, and its speeds; None for one that this processor cannot run."""
    libraries = native.find(settings).directory
    names = sorted(path.stem.removeprefix(_PREFIX) for path in libraries.glob(f"{_PREFIX}*.so"))
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="kylin-gguf-bench-") as scratch:
        exact = replace(model, path=Path(scratch, "exact.gguf"))
        write_exact(libraries, model.path, exact.path)
        kept = [Kept(model, Path(scratch, "base")), Kept(exact, Path(scratch, "exact base"))]
        for weights in kept:
            write_base(Way(libraries, weights.model.path), _PROBE, weights.base)
        for name in names:
            directory = alone(libraries, name, Path(scratch, name))
            try:
                rounded, exactly = [compare(settings, directory, weights) for weights in kept]
            except LibraryLoadFailed:
                found[name] = None
            else:
                found[name] = {**rounded, "exact": exactly, "speeds": []}
        runnable = [name for name in names if found[name]]
        for turn in range(rounds):
            for name in runnable if turn % 2 == 0 else reversed(runnable):
                found[name]["speeds"].append(speeds(Path(scratch, name), model, threads))
    return found


def table(found: dict[str, Any]) -> str:
    """Return the result in Markdown, the slowest at decoding first."""

    def median(name: str, figure: str) -> float:
        return float(statistics.median(sample[figure] for sample in found[name]["speeds"]))

    lines = [
        "| variant | prompt, tokens/s | decode, tokens/s | divergence, mean | largest | same top token |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    runnable = [name for name in found if found[name]]
    for name in sorted(runnable, key=lambda name: median(name, "decode")):
        parted = found[name]["divergence"]
        lines.append(
            f"| {name} | {median(name, 'prompt'):.0f} | {median(name, 'decode'):.0f} "
            f"| {abs(parted['mean']):.6f} | {parted['largest']:.4f} | {parted['same']:.1f} % |"
        )
    lines += [f"| {name} | not on this processor | | | | |" for name in found if not found[name]]
    return "\n".join(lines)


def main() -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description="Force each CPU variant that this processor can run.")
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    settings = config.load({"context_length": 1024, "threads": chosen.threads, "speculation": "off"})
    model = Store(settings, catalogue.load(settings.catalogue)).resolve(chosen.model)
    written: dict[str, Any] = {
        "taken": record.now(),
        "machine": record.machine(),
        "versions": record.versions(),
        "model": record.describe(model),
        "conditions": {"threads": chosen.threads, "prompt": PROMPT, "tokens": TOKENS, "sampling": "greedy"},
        "variants": measure(settings, model, chosen.threads, chosen.rounds),
    }
    path = record.folder(written["machine"]) / "cpu-variants.json"
    path.write_text(json.dumps(written, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(table(written["variants"]))
    ran = [found for found in written["variants"].values() if found]
    texts = {found["text"] for found in ran}
    print(f"\n{len(texts)} different text(s); with weights of 32 bits", end=" ")
    print(f"{len({found['exact']['text'] for found in ran})}, the largest mean divergence", end=" ")
    print(f"{max(found['exact']['divergence']['mean'] for found in ran):.7f}; written to {path}")
    if platform.machine() == "x86_64" and len(texts) > 1:
        return 1
    return 1 if any(found["divergence"]["mean"] > BOUND for found in ran) else 0


if __name__ == "__main__":
    sys.exit(main())
