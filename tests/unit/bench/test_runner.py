"""Turns, warm-up, dropped samples, and who stands still."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.case import Contender, Dropped, Prepared, Sample, Unfair
from bench.runner import take
from tests.unit.bench.conftest import case, contender


async def test_contenders_take_turns_and_every_other_round_goes_backwards() -> None:
    order: list[str] = []

    def named(name: str) -> Contender:
        async def sample(number: int) -> Sample:
            order.append(f"{name}{number}")
            return Sample({"decode": 1.0})

        return Contender(sample)

    ready = Prepared({"a": named("a"), "b": named("b")}, {})
    rounds = await take(case(ready), ready, 2, lambda _: None)
    assert order == ["b0", "a0", "a1", "b1", "b2", "a2"]
    assert [list(given) for given in rounds] == [["a", "b"], ["a", "b"]]


async def test_the_warm_up_does_not_count() -> None:
    calls: list[int] = []
    ready = Prepared({"a": contender([9.0, 1.0, 2.0], calls)}, {})
    rounds = await take(case(ready), ready, 2, lambda _: None)
    assert calls == [0, 1, 2]
    assert [given["a"] for given in rounds] == [Sample({"decode": v}, {"tokens": 3}) for v in (1.0, 2.0)]


async def test_a_case_can_do_without_a_warm_up() -> None:
    calls: list[int] = []
    ready = Prepared({"a": contender([9.0, 1.0], calls)}, {})
    await take(case(ready, warm_up=False), ready, 1, lambda _: None)
    assert calls == [1]


async def test_an_unfair_sample_is_dropped_aloud() -> None:
    said: list[str] = []
    ready = Prepared({"a": contender([0.0, Unfair("too short"), 2.0], [])}, {})
    rounds = await take(case(ready), ready, 2, said.append)
    assert rounds[0]["a"] == Dropped("too short")
    assert rounds[1]["a"] == Sample({"decode": 2.0}, {"tokens": 3})
    assert "  round 1, a: DROPPED: too short" in said


async def test_another_failure_ends_the_run() -> None:
    ready = Prepared({"a": contender([0.0, RuntimeError("broken")], [])}, {})
    with pytest.raises(RuntimeError, match="broken"):
        await take(case(ready), ready, 1, lambda _: None)


@pytest.fixture
def sleepers() -> Iterator[tuple[int, int]]:
    started = [subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) for _ in range(2)]
    yield started[0].pid, started[1].pid
    for process in started:
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.wait()


def _is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] == "T"


async def test_whoever_is_not_measured_stands_still(sleepers: tuple[int, int]) -> None:
    seen: list[tuple[bool, bool]] = []

    async def sample(_: int) -> Sample:
        seen.append((_is_stopped(sleepers[0]), _is_stopped(sleepers[1])))
        return Sample({"decode": 1.0})

    contenders = {
        name: Contender(sample, lambda pid=pid: [pid]) for name, pid in zip("ab", sleepers, strict=True)
    }
    ready = Prepared(contenders, {})
    await take(case(ready, warm_up=False), ready, 2, lambda _: None)
    assert seen == [(False, True), (True, False), (True, False), (False, True)]
    assert not any(_is_stopped(pid) for pid in sleepers)


async def test_contenders_that_share_a_process_do_not_stop_it(sleepers: tuple[int, int]) -> None:
    async def sample(_: int) -> Sample:
        assert not _is_stopped(sleepers[0])
        return Sample({"decode": 1.0})

    both = {name: Contender(sample, lambda: [sleepers[0]]) for name in ("grammar", "free")}
    ready = Prepared(both, {})
    assert len(await take(case(ready), ready, 1, lambda _: None)) == 1
