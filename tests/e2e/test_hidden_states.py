"""Hidden states of a real model: the same however they are batched, and behind everything else."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from kylin_gguf.errors import TextTooLong
from kylin_gguf.pool import EnginePool
from kylin_gguf.records import InstalledModel, Message, StatesRequest

from .test_scheduling import ask, usage

pytestmark = pytest.mark.native

BEFORE = (
    Message("system", "Say in a few words what the user wants."),
    Message("user", "the room is too dark"),
    Message("assistant", "more light"),
)
DEPTH = 0.8
TEXTS = (
    "turn the volume up",
    "make it louder",
    "what is the weather like in a small town by the sea",
    "把声音调大",
)


async def test_a_batch_gives_what_each_text_gives_alone(pool: EnginePool, model: InstalledModel) -> None:
    engine = await pool.acquire(model)
    together = await engine.hidden_states(StatesRequest(BEFORE, TEXTS, DEPTH))
    alone = [await engine.hidden_states(StatesRequest(BEFORE, (text,), DEPTH)) for text in TEXTS]
    assert together.shape == (len(TEXTS), 576)
    for one, other in zip(together, np.concatenate(alone), strict=True):
        assert cosine(one, other) > 0.99


async def test_what_means_the_same_is_alike(pool: EnginePool, model: InstalledModel) -> None:
    engine = await pool.acquire(model)
    states = await engine.hidden_states(StatesRequest(BEFORE, TEXTS, DEPTH))
    up, louder, weather, _ = states - states.mean(axis=0)
    assert cosine(up, louder) > cosine(up, weather)


async def test_messages_before_the_text_count(pool: EnginePool, model: InstalledModel) -> None:
    engine = await pool.acquire(model)
    (one,) = await engine.hidden_states(StatesRequest(BEFORE, TEXTS[:1], DEPTH))
    (other,) = await engine.hidden_states(StatesRequest(BEFORE[:1], TEXTS[:1], DEPTH))
    (again,) = await engine.hidden_states(StatesRequest(BEFORE, TEXTS[:1], DEPTH))
    assert cosine(one, again) > 0.9999 > cosine(one, other)


async def test_a_long_list_lets_a_chat_and_a_single_text_pass(
    pool: EnginePool, model: InstalledModel
) -> None:
    engine = await pool.acquire(model)
    many = tuple(f"{text}, {number}" for number in range(400) for text in TEXTS)
    learning = asyncio.ensure_future(
        engine.hidden_states(StatesRequest(BEFORE, many, DEPTH, background=True))
    )
    await asyncio.sleep(0.2)
    await engine.hidden_states(StatesRequest(BEFORE, TEXTS[:1], DEPTH))
    assert usage(await ask(pool, model, "Count from one to ten.", max_tokens=8))["completion_tokens"] == 8
    assert not learning.done()
    learning.cancel()


async def test_a_text_that_is_too_long_is_refused(pool: EnginePool, model: InstalledModel) -> None:
    engine = await pool.acquire(model)
    with pytest.raises(TextTooLong):
        await engine.hidden_states(StatesRequest(BEFORE, ("word " * 400,), DEPTH))
    await engine.hidden_states(StatesRequest(BEFORE, TEXTS[:1], DEPTH))


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other)))
