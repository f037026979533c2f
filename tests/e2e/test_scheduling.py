"""Requests in company, cut short, cached and restored: no answer shows it, and nothing stays behind."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from kylin_gguf import config
from kylin_gguf.pool import EnginePool
from kylin_gguf.records import InstalledModel
from kylin_gguf.sessions import Session

from .conftest import ENDLESS, STALLED_S, Reading, read_frames

pytestmark = pytest.mark.native

PASSAGE = (
    "The lighthouse stood at the end of a long stone pier, and for forty years the same keeper had lit its "
    "lamp at dusk and put it out at dawn. Fishermen knew him by his yellow coat, children by his stories. "
)
PROMPTS = (
    "What is the capital of France?",
    PASSAGE * 6 + "Who lit the lamp?",
    PASSAGE * 6 + "What colour was the coat?",
    "Count from one to ten.",
    PASSAGE * 2 + "Write one more sentence.",
    "Name three animals that live in the sea and say something about each of them.",
)
TOKENS = 24

CLOSE_CALL = 0.5
"""Two tokens whose log-probabilities are closer than this may change places. On a CPU a token's numbers
depend in their last bits on how many others are computed with it: kernels for one row and for several add up
in different orders. A wrong position, sequence or cell moves them by whole units, and everywhere."""

Drawn = list[tuple[str, float]]
"""Texts of tokens, each with its lead over the next best in natural logarithms."""


@asynccontextmanager
async def engines(cache: Path, **flags: object) -> AsyncIterator[EnginePool]:
    pool = EnginePool(
        config.load({"context_length": 4096, "cache_dir": str(cache), "prefix_cache_mb": 64, **flags})
    )
    try:
        yield pool
    finally:
        await pool.close()


async def ask(pool: EnginePool, model: InstalledModel, prompt: str, **options: Any) -> list[dict[str, Any]]:
    options = {"prompt": prompt, "temperature": 0.0, "max_tokens": TOKENS, "logprobs": 2} | options
    return await read_frames(await Session(model, pool.acquire).generate(options))


def drawn(frames: list[dict[str, Any]]) -> Drawn:
    tokens = [token for frame in frames if frame["type"] == "logprobs" for token in frame["tokens"]]
    return [(t["text"], t["top"][0]["logprob"] - t["top"][1]["logprob"]) for t in tokens]


def usage(frames: list[dict[str, Any]]) -> dict[str, Any]:
    return next(frame for frame in frames if frame["type"] == "usage")


def assert_same(alone: Drawn, other: Drawn) -> None:
    for (text, lead), (other_text, _) in zip(alone, other, strict=False):
        if text != other_text:
            assert lead < CLOSE_CALL, f"{text!r} became {other_text!r}, {lead:.2f} behind"
            return
    assert len(alone) == len(other)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, model: InstalledModel) -> list[Drawn]:
    """What each prompt gets from a worker of its own that has computed nothing before."""

    async def run() -> list[Drawn]:
        answers = []
        for index, prompt in enumerate(PROMPTS):
            async with engines(tmp_path_factory.mktemp(f"alone{index}")) as pool:
                frames = await ask(pool, model, prompt)
                assert usage(frames)["cached_tokens"] == 0
                answers.append(drawn(frames))
        return answers

    return asyncio.run(run())


@pytest.mark.parametrize("seed", range(3))
async def test_company_does_not_change_an_answer(
    tmp_path: Path, model: InstalledModel, alone: list[Drawn], seed: int
) -> None:
    """Random arrivals, with strangers that are cancelled at random moments, in too few slots."""
    chance = random.Random(seed)

    async def stranger(pool: EnginePool) -> None:
        await asyncio.sleep(chance.random())
        prompt = PASSAGE * chance.randint(0, 8) + "Go on."
        generation = await Session(model, pool.acquire).generate({"prompt": prompt, "max_tokens": 200})
        reading = Reading(generation)
        await asyncio.sleep(chance.random())
        generation.cancel()
        await reading.frames

    async def late(pool: EnginePool, index: int) -> tuple[int, Drawn]:
        await asyncio.sleep(chance.random())
        return index, drawn(await ask(pool, model, PROMPTS[index]))

    async with engines(tmp_path, sequences=4) as pool:
        order = chance.sample(range(len(PROMPTS)), len(PROMPTS))
        strangers = asyncio.gather(*(stranger(pool) for _ in range(4)))
        answers = await asyncio.gather(*(late(pool, index) for index in order))
        await strangers
        again = [(index, drawn(await ask(pool, model, PROMPTS[index]))) for index in order]
    for index, answer in (*answers, *again):
        assert_same(alone[index], answer)


async def test_a_restored_prefix_gives_the_answer_of_a_cold_run(
    tmp_path: Path, model: InstalledModel, alone: list[Drawn]
) -> None:
    async with engines(tmp_path) as pool:
        await ask(pool, model, PROMPTS[1])
    assert list(tmp_path.glob("prefixes/*/*.prefix"))
    async with engines(tmp_path) as pool:
        same, other = await ask(pool, model, PROMPTS[1]), await ask(pool, model, PROMPTS[2])
    for frames in (same, other):
        assert usage(frames)["cached_tokens"] > usage(frames)["prompt_tokens"] * 0.9
    assert_same(alone[1], drawn(same))
    assert_same(alone[2], drawn(other))


async def test_states_of_another_kind_of_cache_are_not_used(tmp_path: Path, model: InstalledModel) -> None:
    async with engines(tmp_path) as pool:
        await ask(pool, model, PROMPTS[1])
    async with engines(tmp_path, kv_type="q8_0") as pool:
        assert usage(await ask(pool, model, PROMPTS[1]))["cached_tokens"] == 0
    async with engines(tmp_path, prefix_cache_mb=0) as pool:
        assert usage(await ask(pool, model, PROMPTS[1]))["cached_tokens"] == 0


@pytest.mark.parametrize("flags", [{"load_mode": "instant"}, {"kv_type": "q8_0"}])
async def test_other_ways_to_load_answer_alike(
    tmp_path: Path, model: InstalledModel, alone: list[Drawn], flags: dict[str, object]
) -> None:
    async with engines(tmp_path, **flags) as pool:
        answer = drawn(await ask(pool, model, PROMPTS[0]))
        placement = pool.loaded()[0].placement
    assert_same(alone[0], answer)
    assert placement.mode == flags.get("load_mode", "throughput")
    assert placement.kv_type == flags.get("kv_type", "f16")


async def test_cancel_in_a_long_prefill_gives_the_tokens_back_unfinished(
    tmp_path: Path, model: InstalledModel
) -> None:
    """The cancel arrives in the middle of a step of 512 tokens and is not left until its end."""
    async with engines(tmp_path) as pool:
        await ask(pool, model, "Hello")
        generation = await Session(model, pool.acquire).generate({"prompt": PASSAGE * 60, "max_tokens": 4})
        reading = Reading(generation)
        await asyncio.sleep(0.05)
        generation.cancel()
        frames = await reading.frames
        assert frames[-1] == {"type": "end", "reason": "cancelled"}
        assert usage(frames)["completion_tokens"] == 0
        await wait_for(lambda: not pool.busy)
        assert usage(await ask(pool, model, PROMPTS[0]))["completion_tokens"] > 0


async def test_who_waits_is_told_the_place(tmp_path: Path, model: InstalledModel) -> None:
    async with engines(tmp_path, sequences=1) as pool:
        answers = await asyncio.gather(*(ask(pool, model, prompt) for prompt in PROMPTS[:3]))
    places = [[f["position"] for f in frames if f.get("code") == "queued"] for frames in answers]
    assert places == [[], [1], [2, 1]]


async def test_a_slow_reader_holds_up_nobody(tmp_path: Path, model: InstalledModel) -> None:
    async with engines(tmp_path, sequences=1) as pool:
        session = Session(model, pool.acquire)
        # With twenty alternatives a token, the buffer of a client that does not read is soon full.
        slow = await session.generate({**ENDLESS, "logprobs": 20})
        quick = await asyncio.wait_for(ask(pool, model, PROMPTS[0]), STALLED_S)
        assert quick[-1]["type"] == "end" and not slow.finished.done()
        slow.stream.close()
        assert (await slow.finished).reason == "cancelled"


async def test_streams_that_are_dropped_leave_nothing_behind(tmp_path: Path, model: InstalledModel) -> None:
    """200 streams, closed or cancelled at random moments: no descriptor, request or sequence remains."""
    chance = random.Random(7)
    async with engines(tmp_path) as pool:
        await ask(pool, model, PROMPTS[0])
        pid = pool.loaded()[0].pid
        before = descriptors("self"), descriptors(pid)

        async def drop() -> None:
            prompt = chance.choice(PROMPTS)
            generation = await Session(model, pool.acquire).generate({"prompt": prompt, "max_tokens": 100})
            await asyncio.sleep(chance.random() * 0.3)
            if chance.random() < 0.5:
                generation.cancel()
            generation.stream.close()
            await asyncio.wait_for(generation.finished, STALLED_S)

        for _ in range(10):
            await asyncio.gather(*(drop() for _ in range(20)))
        await wait_for(lambda: not pool.busy)
        await wait_for(lambda: (descriptors("self"), descriptors(pid)) == before)
        assert pool.loaded()[0].pid == pid, "the worker lives"
        # Each of the sequences can still be had: as many at once as there are slots.
        answers = await asyncio.gather(*(ask(pool, model, prompt) for prompt in PROMPTS))
        assert all(frames[-1]["reason"] in ("stop", "length") for frames in answers)


def descriptors(process: int | str) -> int:
    return len(os.listdir(f"/proc/{process}/fd"))


async def wait_for(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(STALLED_S):
        while not condition():
            await asyncio.sleep(0.02)
