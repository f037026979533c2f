"""Readers of what a worker does: one question for all, and never a long wait."""

from __future__ import annotations

import asyncio

import pytest

from kylin_gguf.engine import activity_reader
from kylin_gguf.engine.activity_reader import ActivityReader
from kylin_gguf.records import Activity


async def test_readers_at_the_same_time_share_a_question() -> None:
    asked: list[int] = []
    subject = ActivityReader(lambda: asked.append(1))
    readers = [asyncio.ensure_future(subject.read()) for _ in range(3)]
    await asyncio.sleep(0)
    subject.heard(Activity(running=2))
    assert [reading.running for reading in await asyncio.gather(*readers)] == [2, 2, 2]
    assert len(asked) == 1
    again = asyncio.ensure_future(subject.read())
    await asyncio.sleep(0)
    subject.heard(Activity(running=1))
    assert (await again).running == 1
    assert len(asked) == 2


async def test_a_worker_in_a_long_step_gives_its_last_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activity_reader, "PATIENCE_S", 0.01)
    asked: list[int] = []
    subject = ActivityReader(lambda: asked.append(1))
    subject.heard(Activity(time=7.0, waiting=3))
    assert await subject.read() == await subject.read() == Activity(time=7.0, waiting=3)
    assert len(asked) == 1, "the question is still open"


async def test_nobody_waits_for_a_worker_that_has_ended() -> None:
    subject = ActivityReader(lambda: None)
    reader = asyncio.ensure_future(subject.read())
    await asyncio.sleep(0)
    subject.ended()
    assert await asyncio.wait_for(reader, 20) == await subject.read() == Activity()
