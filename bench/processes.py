"""Child processes that do not outlive the benchmark, however it ends."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1  # prctl(2)
_STOP_SECONDS = 10.0
_LOG_TAIL_BYTES = 2000

_libc = ctypes.CDLL(None)


def _die_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@contextlib.asynccontextmanager
async def child(
    command: Sequence[str | Path],
    *,
    log: Path,
    cwd: Path | str = "/",
    environment: Mapping[str, str] | None = None,
    pipes: bool = False,
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run ``command`` for the length of the block; then ask it to end (SIGTERM), then insist (SIGKILL).

    What it complains of goes to ``log``, as does what it prints, unless ``pipes`` connects its standard
    input and output. The kernel kills it should this process be killed.
    """
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            *map(str, command),
            stdin=subprocess.PIPE if pipes else subprocess.DEVNULL,
            stdout=subprocess.PIPE if pipes else output,
            stderr=output,
            cwd=cwd,
            env={**os.environ, **(environment or {})},
            preexec_fn=_die_with_parent,
            limit=1 << 22,
        )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGCONT)
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), _STOP_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()


def tail(log: Path) -> str:
    """Return the end of a child's log, to explain a failure in its own words."""
    return log.read_text(encoding="utf-8", errors="replace")[-_LOG_TAIL_BYTES:].strip()


def resident_bytes(pid: int) -> int:
    """Return a process's resident set, mapped files included (proc(5), statm)."""
    pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
