"""A worker as the operating system sees it: how it is started, what it uses, how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from kylin_gguf.engine.memory import ProcessMemory, memory_of
from kylin_gguf.engine.worker_log import WorkerLog
from kylin_gguf.errors import WorkerDied

log = logging.getLogger(__name__)

_EXIT_SECONDS = 10.0
"""How long a process that has closed its channel, or was killed, may take to be gone."""


@dataclass(frozen=True)
class Program:
    """What a worker process runs: a module with its options, in an environment."""

    module: str
    options: tuple[str, ...]
    environment: Mapping[str, str]


class Child:
    """One worker process. Make with ``start``."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, output: WorkerLog) -> None:
        self._name, self._process, self._output = name, process, output

    @classmethod
    async def start(cls, name: str, control: socket.socket, program: Program) -> Child:
        """Start a worker that is to hold the model ``name``, with its end of the channel.

        It gets no descriptor of ours but ``control`` and a pipe for its log. What it gives up besides is in
        ``engine.confinement``.
        """
        output = WorkerLog(name)
        options = [*program.options, "--control", str(control.fileno())]
        try:
            # -P: the directory the service runs in must not supply our modules. A group of its own: Ctrl-C in
            # the service's terminal is the service's to handle.
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", program.module, *options),
                pass_fds=[control.fileno()],
                process_group=0,
                cwd="/",
                umask=0o077,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output.write_end,
                stderr=output.write_end,
                env=program.environment,
            )
        except BaseException:
            output.close()
            raise
        finally:
            output.handed_over()
        return cls(name, process, output)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def memory(self) -> ProcessMemory:
        """Return what it has in memory now; nothing once it is gone."""
        return memory_of(self.pid)

    def kill(self) -> None:
        """End it now (SIGKILL). Does nothing when it has ended."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def wait(self, seconds: float) -> bool:
        """Return whether it has ended within ``seconds``."""
        try:
            await asyncio.wait_for(self._process.wait(), seconds)
        except TimeoutError:
            return False
        return True

    async def bury(self) -> None:
        """See it gone, by force if need be, and close its log. One that is stuck in the kernel outlives even
        SIGKILL; it is left behind."""
        if not await self.wait(_EXIT_SECONDS):
            self.kill()
            if not await self.wait(_EXIT_SECONDS):
                log.error("worker of %s, process %d, does not end: is a driver stuck?", self._name, self.pid)
        self._output.close()

    def death(self) -> WorkerDied:
        """Return what is known of its end; call after ``bury``."""
        status, output = _status(self._process.returncode), self._output
        return WorkerDied(self._name, status, output.last_words(), output.tells_of_no_memory())


def _status(code: int | None) -> str:
    if code is None:
        return "it does not end"
    return signal.Signals(-code).name if code < 0 else f"status {code}"
