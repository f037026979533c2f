"""Force each CPU variant of llama.cpp that this processor can run: is the greedy text the same, and how fast?

    python bench/cpu_variants.py [--model NAME] [--threads N] [--rounds N]

Every variant gets a folder with the core and itself alone, so that nothing else can be chosen. The text comes
from our engine, the speeds from llama-bench, in turns. Writes bench/results/MACHINE/cpu-variants.json and
prints a table. Exit status 1 when two variants give different texts.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench import record
from kylin_gguf import catalogue, config, native
from kylin_gguf.errors import LibraryLoadFailed
from kylin_gguf.pool import EnginePool
from kylin_gguf.records import InstalledModel, Settings
from kylin_gguf.sessions import Session
from kylin_gguf.store import Store

PROMPT = "Why is the sky blue? Explain it to a child."
TOKENS = 64
_PREFIX = "libggml-cpu-"


def alone(directory: Path, variant: str, target: Path) -> Path:
    """Fill ``target`` with what ``directory`` holds, except for all CPU variants but ``variant``."""
    target.mkdir()
    for path in directory.iterdir():
        if path.name.startswith(_PREFIX) and path.name != f"{_PREFIX}{variant}.so":
            continue
        if path.name == "llama-bench":
            shutil.copy2(path, target)  # it looks for plug-ins where its file is, not where the link is
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
        for name in names:
            directory = alone(libraries, name, Path(scratch, name))
            try:
                text = asyncio.run(greedy_text(replace(settings, native_dirs=(directory,)), model))
            except LibraryLoadFailed:
                found[name] = None
            else:
                found[name] = {"text": text, "speeds": []}
        runnable = [name for name in names if found[name]]
        for turn in range(rounds):
            for name in runnable if turn % 2 == 0 else reversed(runnable):
                found[name]["speeds"].append(speeds(Path(scratch, name), model, threads))
    return found


def table(found: dict[str, Any]) -> str:
    """Return the result in Markdown, the slowest at decoding first."""

    def median(name: str, figure: str) -> float:
        return float(statistics.median(sample[figure] for sample in found[name]["speeds"]))

    lines = ["| variant | prompt, tokens/s | decode, tokens/s |", "|---|--:|--:|"]
    runnable = [name for name in found if found[name]]
    for name in sorted(runnable, key=lambda name: median(name, "decode")):
        lines.append(f"| {name} | {median(name, 'prompt'):.0f} | {median(name, 'decode'):.0f} |")
    lines += [f"| {name} | not on this processor | |" for name in found if not found[name]]
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
    texts = {found["text"] for found in written["variants"].values() if found}
    print(f"\n{len(texts)} different text(s); written to {path}")
    return 0 if len(texts) == 1 else 1


if __name__ == "__main__":
    sys.exit(main())
