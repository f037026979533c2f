"""Runs a program of strangers for a bounded time, in bounded memory, inside this process.

Signal handlers run in the main thread between two instructions of the interpreter, so this works there only,
and stops what the interpreter runs; one long call into C is stopped when it returns, and what it could
allocate is bounded by the address space.
"""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

_AGAIN_S = 0.05
"""Once the time is over, the signal comes back until it was heard: an exception can be raised where it is
lost."""


class OutOfTime(Exception):
    """The time is over."""


class _Interruption(BaseException):
    """Raised by the signal; not an Exception, which the interrupted program's libraries might catch."""


@contextmanager
def restrained(seconds: float, memory: int) -> Iterator[None]:
    """Bound the processor time and the memory of what runs inside. In the main thread only; does not nest.

    Args:
        seconds: Processor time of the process, so a busy machine does not matter.
        memory: Bytes of address space that may be taken beyond what the process has.

    Raises:
        OutOfTime: the time was over.
        MemoryError: the memory was.
    """

    running = True

    def interrupt(_: int, __: FrameType | None) -> None:
        if running:
            raise _Interruption

    limits = resource.getrlimit(resource.RLIMIT_AS)
    previous = signal.signal(signal.SIGPROF, interrupt)
    try:
        resource.setrlimit(resource.RLIMIT_AS, (_address_space(memory, limits), limits[1]))
        signal.setitimer(signal.ITIMER_PROF, seconds, _AGAIN_S)
        yield
    except _Interruption:
        running = False  # before anything that could be interrupted once more
        raise OutOfTime(f"it took more than {seconds:g} s of processor time") from None
    finally:
        running = False
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        # Ignoring a signal discards one that is pending, which the default action would end the process for.
        signal.signal(signal.SIGPROF, signal.SIG_IGN)
        signal.signal(signal.SIGPROF, previous)
        resource.setrlimit(resource.RLIMIT_AS, limits)


def _address_space(memory: int, limits: tuple[int, int]) -> int:
    """Return the limit that leaves ``memory`` bytes, or less where the process may have less anyway."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    wanted = pages * resource.getpagesize() + memory
    return min([wanted, *(limit for limit in limits if limit != resource.RLIM_INFINITY)])
