"""Job objects: long work, told to its owner alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from kylin_gguf.bus import errors, names
from kylin_gguf.bus.registry import Published, Registry
from kylin_gguf.jobs import Job
from kylin_gguf.records import Progress

ANNOUNCE_EVERY_S = 0.1


class JobObject(Published):
    """``org.openkylin.GgufEngine1.Job`` around a ``jobs.Job``."""

    interfaces = (names.JOB,)

    def __init__(self, registry: Registry, owner: str, job: Job[Any], release: Callable[[], None]) -> None:
        super().__init__(registry, registry.new_path("job"), owner)
        self._job = job
        self._release = release
        self._pending: asyncio.TimerHandle | None = None
        job.result.add_done_callback(lambda _: release())

    @property
    def finished(self) -> bool:
        return self._job.finished

    def start(self) -> None:
        """Begin to report. Called when the reply that names this job is with the bus."""
        self._job.on_change = self._changed
        self._changed()  # it may have come far, or to its end, before anyone could be told

    async def cancel(self, _: str) -> None:
        """Method Cancel."""
        self._job.cancel()

    async def abandon(self) -> None:
        """Cancel the work: nobody is left who wants it."""
        self._job.on_change = lambda: None
        self._job.cancel()

    async def get_kind(self) -> str:
        """Property Kind."""
        return self._job.kind

    async def get_progress(self) -> float:
        """Property Progress."""
        return self._fraction(self._job.progress)

    async def get_detail(self) -> str:
        """Property Detail."""
        return self._job.detail

    async def get_state(self) -> str:
        """Property State."""
        return self._job.state

    def _fraction(self, progress: Progress) -> float:
        return 1.0 if self._job.state == "succeeded" else min(1.0, progress.fraction)

    def _changed(self) -> None:
        if self._job.finished:
            self._complete()
        elif self._pending is None:
            self._pending = asyncio.get_running_loop().call_later(ANNOUNCE_EVERY_S, self._announce)

    def _announce(self) -> None:
        self._pending = None
        job = self._job
        changed = {"Progress": self._fraction(job.progress), "Detail": job.detail, "State": job.state}
        self.registry.announce(self, names.JOB, changed)

    def _complete(self) -> None:
        if self._pending is not None:
            self._pending.cancel()
        self._announce()
        failure = self._job.result.exception()
        name, message = errors.to_bus(failure) if failure else ("", "")
        self.registry.emit(self, names.JOB, "Completed", failure is None, name, message)
        self.registry.trim(self.owner)
