"""Jobs: progress, cancel and results, from threads and from tasks."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from kylin_gguf.errors import Busy, Cancelled, InternalError
from kylin_gguf.jobs import Job, run_async, run_in_thread
from kylin_gguf.records import Progress, ProgressCallback


def states_of(job: Job[object]) -> list[str]:
    seen = [job.state]
    job.on_change = lambda: seen.append(job.state)
    return seen


async def test_thread_reports_on_the_loop_thread() -> None:
    def work(progress: ProgressCallback, cancelled: Callable[[], bool]) -> int:
        progress(Progress("half", 1, 2))
        return threading.get_ident()

    job = run_in_thread("pull", work, "a model")
    threads: list[int] = []
    job.on_change = lambda: threads.append(threading.get_ident())
    worker = await job.result
    assert job.state == "succeeded"
    assert job.detail == "half"
    assert job.progress.fraction == 0.5
    assert set(threads) == {threading.get_ident()}
    assert worker != threading.get_ident()


async def test_thread_sees_cancel() -> None:
    started = threading.Event()

    def work(progress: ProgressCallback, cancelled: Callable[[], bool]) -> None:
        started.set()
        while not cancelled():
            threading.Event().wait(0.005)
        raise Cancelled

    job = run_in_thread("pull", work)
    await asyncio.to_thread(started.wait)
    job.cancel()
    with pytest.raises(Cancelled):
        await job.result
    assert job.state == "cancelled"


async def test_jobs_leave_the_loops_threads_alone() -> None:
    finish = threading.Event()
    jobs = [run_in_thread("pull", lambda _progress, _cancelled: finish.wait(20)) for _ in range(40)]
    try:
        async with asyncio.timeout(10):
            await asyncio.to_thread(lambda: None)
    finally:
        finish.set()
    assert all(await asyncio.gather(*(job.result for job in jobs)))


async def test_known_errors_pass_and_defects_are_generic(caplog: pytest.LogCaptureFixture) -> None:
    async def refuse(progress: ProgressCallback) -> None:
        raise Busy("jobs", 1)

    async def break_down(progress: ProgressCallback) -> None:
        raise ZeroDivisionError("secret detail")

    with pytest.raises(Busy):
        await run_async("load", refuse).result
    with pytest.raises(InternalError) as caught:
        await run_async("load", break_down, "a model").result
    assert "secret" not in str(caught.value)
    assert "secret detail" in caplog.text


@pytest.mark.parametrize("steps_before_cancel", [0, 1])
async def test_task_is_cancelled_before_and_after_its_first_step(steps_before_cancel: int) -> None:
    async def forever(progress: ProgressCallback) -> None:
        await asyncio.Event().wait()

    job = run_async("load", forever)
    states = states_of(job)
    for _ in range(steps_before_cancel):
        await asyncio.sleep(0)
    job.cancel()
    with pytest.raises(Cancelled):
        await job.result
    assert states == ["running", "cancelled"]


async def test_finished_job_ignores_cancel_and_late_progress() -> None:
    report: list[ProgressCallback] = []

    async def work(progress: ProgressCallback) -> str:
        report.append(progress)
        return "done"

    job = run_async("load", work)
    assert await job.result == "done"
    states = states_of(job)
    job.cancel()
    report[0](Progress("late", 1, 1))
    await asyncio.sleep(0)
    assert states == ["succeeded"]
    assert job.detail != "late"


async def test_a_reader_that_gives_up_does_not_break_the_job() -> None:
    release = asyncio.Event()

    async def work(progress: ProgressCallback) -> None:
        await release.wait()

    job = run_async("load", work)
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(job.result, 0.01)
    release.set()
    await asyncio.sleep(0.01)
    assert job.state == "succeeded"
