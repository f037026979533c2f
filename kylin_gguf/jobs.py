"""Long work with progress, cancel and a result. Anything over about 100 ms is a Job.

A Job lives on the event loop of its creator: its attributes change and its callback runs on that loop only,
also when the work itself runs in a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Generic, Literal, TypeVar

from kylin_gguf.errors import Cancelled, InternalError, KylinError
from kylin_gguf.records import Progress, ProgressCallback

log = logging.getLogger(__name__)

JobState = Literal["queued", "running", "succeeded", "failed", "cancelled"]
FINISHED: tuple[JobState, ...] = ("succeeded", "failed", "cancelled")
T = TypeVar("T")


def _ignore() -> None:
    """Ignore a change."""


class Job(Generic[T]):
    """One piece of long work.

    ``detail`` is a short text for people: first what the work is about, then its current stage.
    ``on_change`` is called after every change of ``state``, ``progress`` or ``detail``. ``result`` ends with
    the work's value or a KylinError (Cancelled after ``cancel``), and never with anything else.
    """

    def __init__(self, kind: str, detail: str = "") -> None:
        self.kind = kind
        self.detail = detail
        self.progress = Progress(stage="", done=0)
        self.state: JobState = "queued"
        self.on_change: Callable[[], None] = _ignore
        self.result: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        # A job whose owner has left has no reader; its failure is in ``state`` and in the log.
        self.result.add_done_callback(lambda future: future.cancelled() or future.exception())
        self._stop: Callable[[], None] = _ignore

    @property
    def finished(self) -> bool:
        """Whether ``result`` is there."""
        return self.state in FINISHED

    def cancel(self) -> None:
        """Ask the work to stop; does nothing once it has finished. ``result`` says when it has."""
        if not self.finished:
            self._stop()

    def _begin(self, stop: Callable[[], None]) -> None:
        self._stop = stop
        self.state = "running"
        self.on_change()

    def _advance(self, progress: Progress) -> None:
        if not self.finished:
            self.progress = progress
            self.detail = progress.stage or self.detail
            self.on_change()

    def _succeed(self, value: T) -> None:
        self.state = "succeeded"
        if not self.result.done():
            self.result.set_result(value)
        self.on_change()

    def _fail(self, error: BaseException) -> None:
        known: KylinError
        if isinstance(error, asyncio.CancelledError | Cancelled):
            known = Cancelled()
        elif isinstance(error, KylinError):
            known = error
        else:
            log.error("%s of %s failed", self.kind, self.detail, exc_info=error)
            known = InternalError(detail=type(error).__name__)
        self.state = "cancelled" if isinstance(known, Cancelled) else "failed"
        if not self.result.done():  # a reader that gave up may have cancelled it
            self.result.set_exception(known)
        self.on_change()


def run_async(
    kind: str, work: Callable[[ProgressCallback], Coroutine[Any, Any, T]], detail: str = ""
) -> Job[T]:
    """Start ``work`` as a task and return its job. Cancelling the job cancels the task."""
    job: Job[T] = Job(kind, detail)

    async def run() -> None:
        try:
            value = await work(job._advance)
        except (Exception, asyncio.CancelledError) as error:
            job._fail(error)
        else:
            job._succeed(value)

    task = asyncio.get_running_loop().create_task(run(), name=f"{kind} {detail}")

    def stop() -> None:
        # A task cancelled before its first step never enters run(), so the job must end here.
        if not task.cancel() or job.finished:
            return
        task.add_done_callback(lambda _: None if job.finished else job._fail(Cancelled()))

    job._begin(stop)
    return job


def run_in_thread(
    kind: str, work: Callable[[ProgressCallback, Callable[[], bool]], T], detail: str = ""
) -> Job[T]:
    """Start blocking ``work`` in a thread of its own and return its job.

    ``work`` gets a progress callback, safe to call from its thread, and a function that says whether it
    should stop; it then raises Cancelled.
    """
    loop = asyncio.get_running_loop()
    stop = threading.Event()

    def on_loop(callback: Callable[..., None], *arguments: object) -> None:
        # The loop is closed, a RuntimeError, only when the program ends while the thread winds down.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(callback, *arguments)

    job: Job[T] = Job(kind, detail)

    def run() -> None:
        try:
            value = work(lambda progress: on_loop(job._advance, progress), stop.is_set)
        except BaseException as error:
            on_loop(job._fail, error)
        else:
            on_loop(job._succeed, value)

    job._begin(stop.set)
    # Not one of the loop's threads: they are few, and a slow source would keep them from every other caller.
    threading.Thread(target=run, name=f"{kind} {detail}").start()
    return job
