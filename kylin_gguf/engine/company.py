"""What other programs do with the cores, by the kernel's account."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Protocol


class Company(Protocol):
    """The other programs of this machine."""

    def used(self) -> float:
        """Return how many cores they used since this was last asked, on average."""

    def running(self, own: int) -> int:
        """Return how many threads of theirs run or wait for a core at this moment, ``own`` being ours."""


class OtherPrograms:
    """``Company`` as the kernel sees it."""

    def __init__(
        self,
        stat: str = "/proc/stat",
        loadavg: str = "/proc/loadavg",
        clock: Callable[[], float] = time.monotonic,
        own: Callable[[], float] = time.process_time,
    ) -> None:
        """``own`` tells the processor time of this process, ``clock`` the time, in seconds."""
        self._stat, self._clock, self._own = stat, clock, own
        self._loadavg = os.open(loadavg, os.O_RDONLY | os.O_CLOEXEC)
        self._ticks = os.sysconf("SC_CLK_TCK")
        self._before = self._busy(), own(), clock()

    def __del__(self) -> None:
        os.close(self._loadavg)

    def used(self) -> float:
        """As ``Company.used`` (proc(5), stat: user, nice, system, irq and softirq of the line ``cpu``)."""
        now = self._busy(), self._own(), self._clock()
        everyone, ours, seconds = (after - then for after, then in zip(now, self._before, strict=True))
        self._before = now
        return max(everyone - ours, 0.0) / seconds if seconds > 0 else 0.0

    def _busy(self) -> float:
        with open(self._stat, "rb") as file:
            user, nice, system, _idle, _iowait, irq, softirq, *_ = map(int, file.readline().split()[1:])
        return (user + nice + system + irq + softirq) / self._ticks

    def running(self, own: int) -> int:
        """As ``Company.running`` (proc(5), loadavg: the number before the slash)."""
        runnable = os.pread(self._loadavg, 64, 0).split()[3].partition(b"/")[0]
        return max(int(runnable) - own, 0)
