"""llama.cpp's command-line tools as children of ours, which never outlive us."""

from __future__ import annotations

import codecs
import ctypes
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kylin_gguf import native
from kylin_gguf.config import ENV_PREFIX
from kylin_gguf.errors import ToolFailed
from kylin_gguf.records import Settings

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_STOP_SECONDS = 5.0
_ATTEMPTS = 3
_LAST_WORDS = 300
"""Characters of a failed tool's output that the error repeats."""

_libc = ctypes.CDLL(None, use_errno=True)
# A line of llama.cpp's log: "0.00.244.705 I text".
_LOG_PREFIX = re.compile(r"^\d+\.\d+\.\d+\.\d+ [A-Z] ", re.MULTILINE)


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent dies; for ``preexec_fn``."""
    # Runs in the child between fork and exec; the library was loaded before, so this only makes a syscall.
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@dataclass(frozen=True)
class Toolbox:
    """Runs tools in ``directory``: they record the file names they were given, so those are relative.

    A directory of ours also keeps them from loading plug-in libraries from wherever the user happens to be.
    """

    settings: Settings
    directory: Path

    @property
    def threads(self) -> int:
        """How many threads a tool may use."""
        return self.settings.threads or len(os.sched_getaffinity(0))

    def run(
        self,
        tool: str,
        arguments: Sequence[str],
        heard: Callable[[str], None] = lambda _: None,
        accepted: tuple[int, ...] = (0,),
    ) -> str:
        """Run ``tool`` to its end and return its output and log together; ``heard`` gets it piece by piece.

        The tool is terminated when this call is left by an exception, and killed when this process dies.

        Raises:
            LibrariesMissing: the tool is not installed.
            ToolFailed: it ended with a status that is not ``accepted``.
        """
        path = native.find(self.settings).tool(tool)
        return self._run(tool, [str(path), *arguments], heard, accepted)

    def run_program(
        self,
        module: str,
        arguments: Sequence[str],
        heard: Callable[[str], None],
        accepted: tuple[int, ...] = (0,),
    ) -> str:
        """Run a Python program of ours as ``run`` does a tool. It uses the libraries of our settings.

        Raises:
            ToolFailed: it ended with a status that is not ``accepted``.
        """
        # -P: the work directory must not supply our modules.
        return self._run(module, [sys.executable, "-P", "-m", module, *arguments], heard, accepted)

    def _run(
        self, name: str, command: Sequence[str], heard: Callable[[str], None], accepted: tuple[int, ...]
    ) -> str:
        process = subprocess.Popen(
            command,
            cwd=self.directory,
            env=_environment(self.settings),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            process_group=0,  # Ctrl-C is ours to handle: we end the tool, then clean up
            preexec_fn=die_with_parent,  # noqa: PLW1509 - it takes no lock that another thread could hold
        )
        try:
            output = listen(process, heard)
            status = process.wait()
        finally:
            stop(process)
        if status not in accepted:
            words = " ".join(_LOG_PREFIX.sub("", output).split())[-_LAST_WORDS:]
            raise ToolFailed(name, status, words)
        return output

    def run_for_output(
        self,
        tool: str,
        arguments: Sequence[str],
        heard: Callable[[str], None],
        is_whole: Callable[[str], bool],
    ) -> str:
        """Run ``tool`` as ``run`` does until its output ``is_whole``, three times at most.

        Without our patch 0008 nothing flushes llama.cpp's logger at exit (common_log_main in common/log.cpp
        says so): a tool of another build that ends quickly may lose its last lines.

        Raises:
            ToolFailed: as ``run``, or the end of the output was lost each time.
        """
        for _ in range(_ATTEMPTS):
            output = self.run(tool, arguments, heard)
            if is_whole(output):
                return output
        raise ToolFailed(tool, 0, "the end of its output was lost")

    def version(self) -> str:
        """Return the build of llama.cpp, e.g. ``b11312 (0c1e57098)``."""
        found = re.search(r"build (\d+), commit (\w+)", output := self.run("llama-imatrix", ["--version"]))
        return f"b{found[1]} ({found[2]})" if found else output.strip().partition("\n")[0]


def _environment(settings: Settings) -> dict[str, str]:
    # LLAMA_ARG_* would silently change what the tools do, and so what the manifest claims they did.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LLAMA_")}
    libraries = os.pathsep.join(str(path.absolute()) for path in settings.native_dirs)
    return {**kept, "LC_ALL": "C.UTF-8", f"{ENV_PREFIX}NATIVE_DIRS": libraries}


def listen(process: subprocess.Popen[bytes], heard: Callable[[str], None]) -> str:
    """Return all that ``process`` writes, as text; ``heard`` gets it piece by piece."""
    assert process.stdout is not None
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    pieces: list[str] = []
    # Progress comes without newlines, so whatever has arrived is passed on.
    while data := os.read(process.stdout.fileno(), 65536):
        pieces.append(decoder.decode(data))
        heard(pieces[-1])
    return "".join(pieces)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End ``process`` if it runs, by force after a while, and close its pipe."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.stdout is not None:
        process.stdout.close()
