"""Decode speed through D-Bus against llama-bench of the same build, in turns.

    python -m bench.decode_speed [MODEL ...] [--rounds 7]

Ours is the worker's own figure from the ``usage`` frame of a streamed answer of 65 tokens (the first is
prefill's); the client reads every frame over the descriptor meanwhile. The peer's is ``llama-bench -p 0
-n 64``. Sampling is greedy on our side, llama-bench does not sample.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import tempfile

from bench.record import Comparison, write
from kylin_gguf import catalogue, config, native
from kylin_gguf.bus.client import Client
from kylin_gguf.records import InstalledModel, Settings
from kylin_gguf.store import Store

TOKENS = 64
PROMPT = "Write a long story about a lighthouse keeper, a storm and a ship, with many details."


def peer(settings: Settings, model: InstalledModel, threads: int) -> float:
    """Return llama-bench's tokens per second."""
    tool = native.find(settings).tool("llama-bench")
    command = [str(tool), "-m", str(model.path), "-p", "0", "-n", str(TOKENS), "-r", "1"]
    command += ["-t", str(threads), "-o", "json"]
    with tempfile.TemporaryDirectory() as empty:  # the tool loads plug-ins from its current directory
        done = subprocess.run(command, cwd=empty, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout)[0]["avg_ts"])


async def ours(client: Client, model: InstalledModel) -> float:
    """Return our tokens per second for one streamed answer."""
    session = await client.create_session(str(model.path))
    answer = await session.generate(PROMPT, temperature=0.0, max_tokens=TOKENS + 1)
    frames = [frame async for frame in answer]
    await session.close()
    usage = next(frame for frame in frames if frame["type"] == "usage")
    if usage["completion_tokens"] <= TOKENS // 2:
        raise SystemExit(f"{model.name} stopped after {usage['completion_tokens']} tokens; no fair figure")
    return float(usage["decode_tokens_per_s"])


async def compare(settings: Settings, client: Client, model: InstalledModel, rounds: int) -> Comparison:
    """Measure one model, ours and the peer's in turns, after a round that does not count."""
    await ours(client, model)
    status = await client.properties()
    loaded = next(item for item in status["LoadedModels"] if item["path"] == str(model.path))
    threads = loaded["placement"]["threads"]
    samples = [(await ours(client, model), peer(settings, model, threads)) for _ in range(rounds)]
    mine, theirs = zip(*samples, strict=True)
    what = f"decode of {TOKENS} tokens, {model.path.name}, {threads} threads"
    return Comparison(what, "tokens/s", mine, theirs)


async def run(names: list[str], rounds: int) -> None:
    """Measure, print, record."""
    settings = config.load()
    store = Store(settings, catalogue.load(settings.catalogue))
    models = [store.resolve(name) for name in names] or [store.default()]
    async with await Client.connect(settings) as client:
        results = [await compare(settings, client, model, rounds) for model in models]
    for result in results:
        print(f"{result.what}: ratio {result.ratio:.3f}")
    version = native.load(settings).version
    print(write("decode-speed", {"llama.cpp": version}, {"rounds": rounds, "sampling": "greedy"}, results))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "models", nargs="*", metavar="MODEL", help="names or GGUF files; default: the default model"
    )
    parser.add_argument("--rounds", type=int, default=7, help="pairs of measurements (default 7)")
    arguments = parser.parse_args()
    asyncio.run(run(arguments.models, arguments.rounds))


if __name__ == "__main__":
    main()
