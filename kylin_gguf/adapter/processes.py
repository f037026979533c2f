"""Programs: found on PATH, given their arguments one by one. No shell is ever started."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from kylin_gguf.adapter.outcome import Failed, Unavailable

MAX_OUTPUT = 1 << 16
"""Bytes of a program's output that are looked at for its last line."""
SETTLE_S = 0.5
"""A program that is launched and ends with an error within this time has not started."""
END_S = 2.0
"""How long a program may take to end when it is told to."""
_PIECE = 4096

_launched: set[asyncio.Task[int]] = set()
"""Waits for the ends of launched programs, so that they leave no zombies."""


@dataclass(frozen=True)
class Finished:
    """The exit status of a program and what it has said."""

    status: int
    output: str
    complaints: str


def find(program: str) -> str:
    """Return the path of ``program``; raises Unavailable when it is not installed."""
    path = shutil.which(program)
    if path is None:
        raise Unavailable(f"{program} is not installed")
    return path


def _environment() -> dict[str, str]:
    # The packaged launcher sets these for our own modules; another Python program would find them, too.
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


async def _start(argv: Sequence[str], output: int, complaints: int) -> asyncio.subprocess.Process:
    """Start a program in a session of its own, in the root directory: a relative name finds nothing there."""
    try:
        return await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=complaints,
            env=_environment(),
            cwd="/",
            start_new_session=True,
        )
    except (OSError, ValueError) as error:  # ValueError: a NUL character in an argument
        raise Failed(f"{argv[0]} could not be started: {error}") from error


@asynccontextmanager
async def _limited(process: asyncio.subprocess.Process, program: str, seconds: float) -> AsyncIterator[None]:
    """Kill ``process`` and all that it has started when the body takes longer, or is cancelled."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except BaseException as error:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        if isinstance(error, TimeoutError):
            raise Failed(f"{program} has not ended after {seconds:g} seconds") from error
        raise


async def run(program: str, *arguments: str, seconds: float) -> Finished:
    """Run ``program`` to its end.

    Raises:
        Unavailable: it is not installed.
        Failed: it does not start, or has not ended after ``seconds``; it is then killed.
    """
    pipe = asyncio.subprocess.PIPE
    process = await _start([find(program), *arguments], pipe, pipe)
    async with _limited(process, program, seconds):
        output, complaints = await process.communicate()
    said = (output.decode(errors="replace").strip(), complaints.decode(errors="replace").strip())
    return Finished(process.returncode or 0, *said)


async def listen(program: str, *arguments: str, last: str, seconds: float) -> str:
    """Run ``program`` until it prints ``last`` or ends, and return what it has printed.

    It is told to end then, but what it has started runs on.

    Raises:
        Unavailable: it is not installed.
        Failed: it does not start, or has not come so far after ``seconds``; it is then killed.
    """
    process = await _start([find(program), *arguments], asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL)
    assert process.stdout is not None
    read = b""
    async with _limited(process, program, seconds):
        while last.encode() not in read and len(read) < MAX_OUTPUT:
            piece = await process.stdout.read(_PIECE)
            if not piece:
                break
            read += piece
    await _end(process)
    return read.decode(errors="replace")


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
    try:
        await asyncio.wait_for(process.wait(), END_S)
    except TimeoutError:
        process.kill()
        await process.wait()


async def launch(program: str, *arguments: str) -> None:
    """Start ``program`` and leave it running.

    Raises:
        Unavailable: it is not installed.
        Failed: it does not start, or ends with an error at once.
    """
    nothing = asyncio.subprocess.DEVNULL
    process = await _start([find(program), *arguments], nothing, nothing)
    waiting = asyncio.ensure_future(process.wait())
    _launched.add(waiting)
    waiting.add_done_callback(_launched.discard)
    done, _ = await asyncio.wait([waiting], timeout=SETTLE_S)
    if done and waiting.result() != 0:
        raise Failed(f"{program} ended with status {waiting.result()}")
