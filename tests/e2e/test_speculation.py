"""Guessed tokens with a real model: measured while nobody waits, kept for the next start, and never seen."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from kylin_gguf import config
from kylin_gguf.engine.process import EngineProcess
from kylin_gguf.pool import EnginePool
from kylin_gguf.records import InstalledModel

from .test_scheduling import ask, assert_same, drawn, usage

pytestmark = pytest.mark.native

TRIAL_S = 300
QUOTING = (
    "Repeat exactly, word for word, three times: The lighthouse stood at the end of a long stone pier, and "
    "for forty years the same keeper had lit its lamp at dusk and put it out at dawn."
)


def pool(cache: Path, speculation: str) -> EnginePool:
    flags = {"context_length": 1024, "cache_dir": str(cache), "speculation": speculation}
    return EnginePool(config.load(flags))


async def measured(engine: EngineProcess) -> str:
    async with asyncio.timeout(TRIAL_S):
        while engine.speculation.way == "measuring":
            await asyncio.sleep(0.1)
    return engine.speculation.way


async def always_guess(cache: Path, model: InstalledModel) -> None:
    """Put a choice for guessing in the place of the trial's, which depends on the machine."""
    engines = pool(cache, "auto")
    await measured(await engines.acquire(model))
    await engines.close()
    (path,) = cache.glob("speculation/*.json")
    path.write_text(json.dumps({"format": 1, "gain": 2.0, "costs": {"1": 1.0, "8": 1.1}}))


async def test_a_trial_is_run_once_and_reported(tmp_path: Path, model: InstalledModel) -> None:
    engines, told = pool(tmp_path, "auto"), asyncio.Event()
    engines.on_change = told.set
    engine = await engines.acquire(model)
    told.clear()
    assert engine.speculation.way == "measuring"
    # Who asks meanwhile is answered, and the trial goes on afterwards.
    assert usage(await ask(engines, model, "What is the capital of France?"))["completion_tokens"] > 0
    way = await measured(engine)
    assert told.is_set(), "clients learn of it"
    gain = engine.speculation.gain
    assert way in ("lookup", "off") and gain is not None and 0.5 < gain < 8
    await engines.close()
    (path,) = tmp_path.glob("speculation/*.json")
    assert path.stat().st_mode & 0o077 == 0
    again = pool(tmp_path, "auto")
    assert (await again.acquire(model)).speculation.way == way, "known from the start"
    await again.close()


async def test_guesses_change_no_answer(tmp_path: Path, model: InstalledModel) -> None:
    await always_guess(tmp_path, model)
    answers = []
    for speculation in ("off", "auto"):
        engines = pool(tmp_path, speculation)
        answers.append(await ask(engines, model, QUOTING, max_tokens=120))
        await engines.close()
    plain, guessed = answers
    assert usage(plain)["guessed_tokens"] == 0
    figures = usage(guessed)
    assert 0 < figures["accepted_tokens"] <= figures["guessed_tokens"]
    assert_same(drawn(plain), drawn(guessed))


async def test_a_seed_draws_the_same_with_guesses(tmp_path: Path, model: InstalledModel) -> None:
    """Sampling goes through the same draws: a guess only has their logits ready."""
    await always_guess(tmp_path, model)
    texts = []
    for speculation in ("off", "auto"):
        engines = pool(tmp_path, speculation)
        options = {"temperature": 0.3, "seed": 11, "repeat_penalty": 1.0, "max_tokens": 60}
        frames = await ask(engines, model, QUOTING, **options)
        texts.append([text for text, _ in drawn(frames)])
        await engines.close()
    plain, guessed = texts
    common = next((i for i, (a, b) in enumerate(zip(plain, guessed, strict=False)) if a != b), len(plain))
    assert common >= min(8, len(plain)), "only close draws may differ, by the last bits of the logits"
