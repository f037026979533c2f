"""A worker that answers is left alone however slow it is; one that does not is given up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from kylin_gguf.engine import heartbeat
from kylin_gguf.engine.heartbeat import Heartbeat


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "PERIOD_S", 0.001)
    monkeypatch.setattr(heartbeat, "SILENT_PERIODS", 4)
    monkeypatch.setattr(heartbeat, "LOADING_PERIODS", 9)


class Watched:
    """A worker that answers the first ``answers`` pings."""

    def __init__(self, answers: int = 0, expecting: Callable[[], bool] = lambda: True) -> None:
        self.answers, self.pings = answers, 0
        self.silence: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self.enough = asyncio.Event()
        self.heartbeat = Heartbeat(expecting, self._ping, self.silence.set_result)

    def _ping(self) -> None:
        self.pings += 1
        if self.pings <= self.answers:
            self.heartbeat.heard()
        if self.pings == 40:
            self.enough.set()


async def test_silence_is_counted_in_periods_and_reported_once() -> None:
    watched = Watched()
    watched.heartbeat.loaded()
    assert await watched.silence == pytest.approx(0.004)
    assert watched.pings == 4


async def test_loading_is_given_more_time() -> None:
    watched = Watched()
    assert await watched.silence == pytest.approx(0.009)


async def test_a_worker_that_answers_is_left_alone() -> None:
    watched = Watched(answers=1000)
    watched.heartbeat.loaded()
    await watched.enough.wait()
    assert not watched.silence.done()
    watched.heartbeat.stop()


async def test_answers_that_stop_are_missed() -> None:
    watched = Watched(answers=10)
    watched.heartbeat.loaded()
    await watched.silence
    assert watched.pings == 10 + 4


async def test_an_idle_worker_is_left_asleep() -> None:
    asked = 0
    enough = asyncio.Event()

    def expecting() -> bool:
        nonlocal asked
        asked += 1
        if asked == 40:
            enough.set()
        return False

    watched = Watched(expecting=expecting)
    watched.heartbeat.loaded()
    await enough.wait()
    assert watched.pings == 0 and not watched.silence.done()
    watched.heartbeat.stop()
