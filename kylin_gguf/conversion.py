"""Conversions for clients: ``kylin-gguf convert`` as a child process that everything else goes before.

The runtime does not import the converter, which may not be installed, and whose libraries are large.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

from kylin_gguf import call_options
from kylin_gguf.errors import ConverterMissing, InvalidValue, ToolFailed, of_code
from kylin_gguf.records import Progress, ProgressCallback

log = logging.getLogger(__name__)

# It gets what processor and disk time is left over, and dies with the service: SIGKILL, because nothing else
# ends a process that stands still.
_LAST_IN_LINE = ("setpriv", "--pdeathsig", "KILL", "ionice", "--class", "idle", "nice", "--adjustment=19")
_PROGRAM = (sys.executable, "-P", "-m", "kylin_gguf", "convert", "--json")
_OPTIONS = ("quantisation", "replace")
_MAX_CHARS = 4096
"""As long as a path may be (PATH_MAX of linux/limits.h)."""
_LINE_BYTES = 1 << 20
_GLANCE_S = 0.2
"""How long the beginning of an answer may have the conversion beside it."""
_EXIT_S = 10.0


@dataclass(frozen=True)
class Conversion:
    """What to convert, in words of the command line, and how. No ``quantisation``: the converter's choice."""

    source: str
    quantisation: str = ""
    replace: bool = False

    @classmethod
    def from_options(cls, source: str, options: Mapping[str, Any]) -> Self:
        """Return what a client has asked for.

        Raises:
            UnknownOption, InvalidValue: it may not ask for that.
        """
        call_options.refuse_unknown(options, _OPTIONS)
        quantisation = call_options.text(options, "quantisation")
        replace = call_options.flag(options, "replace")
        if len(quantisation) > _MAX_CHARS:
            raise InvalidValue("quantisation", quantisation[:80], "the name of a quantisation")
        if not 0 < len(source) <= _MAX_CHARS:
            raise InvalidValue("source", source[:80], "a folder, a GGUF, a model's name or a repository")
        return cls(source, quantisation, replace)

    def arguments(self) -> list[str]:
        """Return the arguments of ``kylin-gguf convert``. None of the client's can be taken for an option."""
        given = [f"--quant={self.quantisation}"] if self.quantisation else []
        return [*given, *(["--force"] if self.replace else []), "--", self.source]


class Converter:
    """Converts into ``directory``, one model at a time, and only while ``is_busy`` says that nobody waits."""

    def __init__(self, directory: Path, is_busy: Callable[[], bool]) -> None:
        self._directory, self._is_busy = directory, is_busy
        self._turn = asyncio.Lock()

    async def convert(self, wanted: Conversion, progress: ProgressCallback) -> Path:
        """Return the file that was made, named by the converter. Cancelling ends the child, which tidies up.

        Raises:
            ConverterMissing: it is not installed.
            KylinError: what the converter failed with, as it worded it.
            ToolFailed: it ended without a word.
        """
        if find_spec("kylin_convert") is None:
            raise ConverterMissing
        async with self._turn:
            self._directory.mkdir(parents=True, exist_ok=True)
            process = await asyncio.create_subprocess_exec(
                *(*_LAST_IN_LINE, *_PROGRAM, *wanted.arguments()),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                cwd=self._directory,
                limit=_LINE_BYTES,
                start_new_session=True,
            )
            standing_back = asyncio.create_task(self._stand_back(process))
            try:
                return self._directory / await _listen(process, progress)
            finally:
                standing_back.cancel()
                await _end(process)

    async def _stand_back(self, process: asyncio.subprocess.Process) -> None:
        """Have the child and its tools stand still while a model works for someone.

        Fewer threads would not do: programs that compute with a model share the bandwidth of the memory.
        """
        still = False
        while process.returncode is None:
            if self._is_busy():
                # Each time anew: a process may have begun while its parent was being stopped.
                _signal_family(process.pid, signal.SIGSTOP)
                still = True
            elif still:
                _signal_family(process.pid, signal.SIGCONT)
                still = False
            await asyncio.sleep(_GLANCE_S)


async def _listen(process: asyncio.subprocess.Process, progress: ProgressCallback) -> str:
    """Pass on what the child says until it ends; return the name of the file that it made."""
    assert process.stdout is not None
    made, failure = "", None
    async for line in process.stdout:
        match json.loads(line):
            case {"type": "progress", "stage": stage, "done": done, "total": total, "unit": unit}:
                progress(Progress(stage, done, total, unit))
            case {"type": "notice", "text": text}:
                log.info("%s", text)
            case {"type": "error", "code": code, "message": message}:
                failure = of_code(code, message)
            case {"type": "done", "path": path}:
                made = str(path)
    status = await process.wait()
    if status or not made:
        raise failure or ToolFailed("kylin-gguf convert", status, "it ended without a word")
    return made


async def _end(process: asyncio.subprocess.Process) -> None:
    """See the child gone, by force if it does not go when told."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        _signal_family(process.pid, signal.SIGCONT)  # a process that stands still does not hear of its end
    try:
        await asyncio.wait_for(process.wait(), _EXIT_S)
    except TimeoutError:
        process.kill()
        await process.wait()


def _signal_family(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process and then to its children, which are in process groups of their own."""
    with contextlib.suppress(ProcessLookupError, FileNotFoundError):
        os.kill(pid, number)
        for listing in Path(f"/proc/{pid}/task").glob("*/children"):  # proc(5)
            for child in listing.read_text(encoding="ascii").split():
                _signal_family(int(child), number)
