"""Notices a worker that lives but does nothing, such as one that waits in a driver for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

PERIOD_S = 10.0
"""Time between two pings. Silence is counted in periods of the service's own: one that was stopped or whose
machine slept finds one period gone, not a worker that seems dead."""

SILENT_PERIODS = 18
"""How many a loaded worker may let pass. It answers between decode steps, and one step over a full batch of
prompt takes minutes on the slowest machines."""

LOADING_PERIODS = 60
"""How many while it loads, where only progress is a sign of life: a driver may compile its shaders first."""


class Heartbeat:
    """Pings a worker that is expected to be at work. An idle one is left asleep.

    Args:
        expecting: Says whether the worker has something to do.
        ping: Sends a ping; any message of the worker is an answer.
        on_silence: Called once, with the seconds of silence, when that was too long; pinging ends then.
    """

    def __init__(
        self, expecting: Callable[[], bool], ping: Callable[[], None], on_silence: Callable[[float], None]
    ) -> None:
        self._expecting, self._ping, self._on_silence = expecting, ping, on_silence
        self._silent = 0
        self._loading = True
        self._beating = asyncio.ensure_future(self._beat())

    def heard(self) -> None:
        """Note a sign of life."""
        self._silent = 0

    def loaded(self) -> None:
        """From now on the worker answers pings."""
        self._loading = False

    def stop(self) -> None:
        """Expect nothing any more."""
        self._beating.cancel()

    async def _beat(self) -> None:
        while self._silent < (LOADING_PERIODS if self._loading else SILENT_PERIODS):
            await asyncio.sleep(PERIOD_S)
            if self._expecting():
                self._silent += 1
                self._ping()
            else:
                self._silent = 0
        self._on_silence(self._silent * PERIOD_S)
