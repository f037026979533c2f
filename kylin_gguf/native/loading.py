"""Load llama.cpp's libraries into this process, and say which plug-ins do not work here.

The bindings (``llama_cpp``) are told where the libraries lie, so ``load`` comes before anything else that
imports them. Back ends are plug-ins, and are loaded from that one directory only: left to itself,
llama.cpp searches the directory of the executable, which is Python's, and before our patch to it also the
current directory (``ggml_backend_load_all``), where anybody may have put a file.

Names in parentheses are functions of the pinned llama.cpp, in ``ggml-backend.h`` and ``llama.h``.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kylin_gguf import plugins, rpc
from kylin_gguf.errors import LibraryLoadFailed
from kylin_gguf.library_log import LogLines, LogSink
from kylin_gguf.native.devices import devices
from kylin_gguf.native.finding import CORE_LIBRARY, find
from kylin_gguf.native.functions import libraries
from kylin_gguf.records import Device, FailedPlugin, Settings


@dataclass(frozen=True)
class LoadedLibraries:
    """What this process has loaded. ``version`` names llama.cpp's release and commit, ``processor`` the
    plug-in that was chosen for the CPU, such as ``cpu-haswell``."""

    directory: Path
    version: str
    processor: str
    devices: tuple[Device, ...]
    failed: tuple[FailedPlugin, ...]


def load(settings: Settings, *, accelerators: bool = True) -> LoadedLibraries:
    """Load llama.cpp and every back end that works here; later calls return the first one's result.

    A plug-in that crashes is left out. Its driver may still crash later, so no long-lived process of ours
    calls this. Without ``accelerators`` only the processor's is loaded: no driver is woken, takes memory or
    crashes.

    Raises:
        LibrariesMissing: there is nothing to load.
        LibraryLoadFailed: the core, the bindings or all CPU plug-ins do not load, or this process has
            loaded another build already.
    """
    directory = find(settings).directory
    with _process.lock:
        if _process.loaded is None:
            _process.loaded = _load(directory, accelerators=accelerators)
    if _process.loaded.directory != directory:
        raise LibraryLoadFailed(str(directory), f"this process uses {_process.loaded.directory}")
    return _process.loaded


def capture_log(sink: LogSink) -> None:
    """Send llama.cpp's log of this process to ``sink`` from now on, line by line, instead of ``logging``.

    ``sink`` is called on whichever thread logs and must not raise.
    """
    _process.log.sink = sink


class _Process:
    """What this process has loaded: dynamic libraries are a process's, not an object's."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.loaded: LoadedLibraries | None = None
        self.log = LogLines()
        self.log_callback: object = None
        """Kept here because C keeps only the pointer."""


_process = _Process()


def _load(directory: Path, *, accelerators: bool) -> LoadedLibraries:
    library = _import_bindings(directory)
    tried = plugins.accelerators(directory)
    crashing = plugins.crashing(tried) if accelerators else {}
    left_out = crashing.keys() if accelerators else {path.name for path in tried}
    with plugins.without(directory, left_out) as healthy:
        library.ggml_backend_load_all_from_path(os.fsencode(healthy))
    processor = next((device.plugin for device in devices() if device.kind == "cpu"), "")
    # Of the CPU plug-ins, the best for this processor was chosen: the others are meant to stay away.
    suspects = (tried if accelerators else []) if processor else plugins.among(directory)
    failed = tuple(_failures(library, directory, suspects, crashing))
    if not processor:
        reasons = "; ".join(f"{plugin.name}: {plugin.reason}" for plugin in failed)
        raise LibraryLoadFailed(str(directory), reasons or "it has no CPU plug-in")
    version = f"{library.llama_version().decode()} ({library.ggml_commit().decode()})"
    return LoadedLibraries(directory, version, processor, devices(), failed)


def _import_bindings(directory: Path) -> Any:
    """Import llama_cpp on the libraries in ``directory``; return the CDLL with our prototypes declared."""
    os.environ["LLAMA_CPP_LIB_PATH"] = str(directory)
    try:
        import llama_cpp  # noqa: PLC0415 - it loads the library on import
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        raise LibraryLoadFailed(str(directory / CORE_LIBRARY), str(error)) from error
    used = Path(llama_cpp.llama_cpp._base_path).resolve()
    if used != directory:
        raise LibraryLoadFailed(str(directory), f"the bindings were imported before, with {used}")
    # The bindings install a callback of their own, which prints to stderr.
    _process.log_callback = llama_cpp.llama_log_callback(_process.log)
    llama_cpp.llama_log_set(_process.log_callback, None)
    return libraries()


def _failures(
    library: Any, directory: Path, suspects: Iterable[Path], crashing: Mapping[str, str]
) -> Iterator[FailedPlugin]:
    """Yield those of ``suspects`` that do not load, each with llama.cpp's reason, and those without a device.

    ``ggml_backend_load_all_from_path`` keeps failures to itself in release builds, so each plug-in is
    loaded once more by name (``ggml_backend_load``), which says why and leaves those loaded as they are.
    """
    for path in suspects:
        if path.name in crashing:
            yield FailedPlugin(plugins.name(path), crashing[path.name])
            continue
        with _overheard() as lines:
            registered = library.ggml_backend_load(os.fsencode(path))
        if not registered:
            said = lines[-1] if lines else "llama.cpp gave no reason"
            yield FailedPlugin(plugins.name(path), plugins.reason(directory, said))
        elif path.name != rpc.PLUGIN and not library.ggml_backend_reg_dev_count(registered):
            yield FailedPlugin(plugins.name(path), "it loads, but finds no device")


@contextmanager
def _overheard() -> Iterator[list[str]]:
    """Collect what llama.cpp logs in the block, instead of passing it on."""
    lines: list[str] = []
    sink, _process.log.sink = _process.log.sink, lambda _, line: lines.append(line)
    try:
        yield lines
    finally:
        _process.log.sink = sink
