"""Asks a worker what it does. That is no request: a worker that is only looked at counts as idle."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from kylin_gguf.records import Activity

PATIENCE_S = 0.5
"""How long a reader waits for a worker in a long step, which on a GPU cannot be interrupted."""


class ActivityReader:
    """The last reading, and the readers that wait for the next. They share one question."""

    def __init__(self, ask: Callable[[], None]) -> None:
        """``ask`` sends the question; its answer comes to ``heard``."""
        self._ask = ask
        self._last = Activity()
        self._awaited: asyncio.Future[Activity] | None = None

    async def read(self) -> Activity:
        """Return what the worker does now; the last reading, with its time, if it does not answer soon."""
        awaited = self._awaited
        if awaited is None:
            awaited = self._awaited = asyncio.get_running_loop().create_future()
            self._ask()
        try:
            return await asyncio.wait_for(asyncio.shield(awaited), PATIENCE_S)
        except TimeoutError:
            return self._last

    def heard(self, activity: Activity) -> None:
        """Take in an answer."""
        self._last = activity
        if self._awaited:
            self._awaited.set_result(activity)
            self._awaited = None

    def ended(self) -> None:
        """No answer comes any more."""
        self.heard(self._last)
        self._ask = self.ended
