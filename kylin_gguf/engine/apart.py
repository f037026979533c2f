"""Where the threads of a step wake after a pause: not all on one processor."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator

PAUSE_S = 0.02
"""After so long the threads of the last step sleep; before, they may still spin where they are."""

_libc = ctypes.CDLL(None)


@contextlib.contextmanager
def apart() -> Iterator[None]:
    """In the block, let no other thread of this process run on the processor that runs this one.

    Linux wakes a thread where it ran last. Where the calling one has come to since, both take turns, at each
    point where they wait for each other, until the kernel moves one: 10 ms of a prompt that takes 30. What
    the threads may run on is afterwards what it was for the calling one (sched_setaffinity(2)).
    """
    allowed = os.sched_getaffinity(0)
    elsewhere = allowed - {_libc.sched_getcpu()}
    threads = [int(name) for name in os.listdir("/proc/self/task") if int(name) != os.getpid()]
    if not elsewhere:
        yield
        return
    try:
        _place(threads, elsewhere)
        yield
    finally:
        _place(threads, allowed)


def _place(threads: list[int], processors: set[int]) -> None:
    for thread in threads:
        with contextlib.suppress(OSError):  # it has ended, or a cgroup has taken these processors away
            os.sched_setaffinity(thread, processors)
