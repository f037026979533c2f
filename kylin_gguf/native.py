"""llama.cpp's libraries and tools on this machine: find them, and load them safely into this process.

The bindings (``llama_cpp``) are told where the libraries lie, so ``load`` comes before anything else that
imports them. Back ends are plug-ins, and are loaded from that one directory only: left to itself,
llama.cpp searches the directory of the executable, which is Python's, and before our patch to it also the
current directory (``ggml_backend_load_all``), where anybody may have put a file.

Names in parentheses are functions of the pinned llama.cpp, in ``ggml-backend.h`` and ``llama.h``.
"""

from __future__ import annotations

import ctypes
import logging
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kylin_gguf import plugins, rpc
from kylin_gguf.errors import DeviceMissing, LibrariesMissing, LibraryLoadFailed
from kylin_gguf.library_log import LogLines, LogSink
from kylin_gguf.records import Device, DeviceKind, FailedPlugin, Settings

log = logging.getLogger(__name__)

_CORE_LIBRARY = "libllama.so"
# enum ggml_backend_dev_type; its fifth, "meta", exists only for those who make one.
_KINDS: dict[int, DeviceKind] = {0: "cpu", 1: "gpu", 2: "igpu", 3: "accel"}


@dataclass(frozen=True)
class NativeLibraries:
    """One build of llama.cpp: libraries, plug-ins and tools, all in ``directory``."""

    directory: Path

    def tool(self, name: str) -> Path:
        """Return the path of a tool such as ``llama-quantize``, which finds the plug-ins beside it.

        Raises:
            LibrariesMissing: this build has no such tool.
        """
        path = self.directory / name
        if not (path.is_file() and os.access(path, os.X_OK)):
            raise LibrariesMissing((str(path),))
        return path


@dataclass(frozen=True)
class LoadedLibraries:
    """What this process has loaded. ``version`` names llama.cpp's release and commit, ``processor`` the
    plug-in that was chosen for the CPU, such as ``cpu-haswell``."""

    directory: Path
    version: str
    processor: str
    devices: tuple[Device, ...]
    failed: tuple[FailedPlugin, ...]


def find(settings: Settings) -> NativeLibraries:
    """Return the first of ``settings.native_dirs`` that holds llama.cpp's libraries.

    Raises:
        LibrariesMissing: none does.
    """
    for directory in settings.native_dirs:
        if (directory / _CORE_LIBRARY).is_file():
            return NativeLibraries(directory.resolve())
    raise LibrariesMissing(tuple(str(directory) for directory in settings.native_dirs))


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


def devices() -> tuple[Device, ...]:
    """Return the loaded back ends' devices with their memory as it is now; ``load`` must have been called.

    For the CPU, llama.cpp reports all memory as free (``ggml_backend_dev_memory``).
    """
    library = _library()
    handles = (library.ggml_backend_dev_get(index) for index in range(library.ggml_backend_dev_count()))
    return tuple(device for handle in handles if (device := _device(library, handle)) is not None)


def device_handle(name: str) -> int:
    """Return llama.cpp's handle of a device (ggml_backend_dev_by_name); ``load`` must have been called.

    One that an RPC worker lends is asked for there, which can end this process if the worker goes meanwhile.

    Raises:
        DeviceMissing: no loaded back end has it, or its worker does not answer.
    """
    lent = rpc.named(name)
    handle = _lent(lent) if lent else _library().ggml_backend_dev_by_name(name.encode())
    if not handle:
        raise DeviceMissing(name, tuple(device.name for device in devices()))
    return int(handle)


def rpc_function(name: str) -> int:
    """Return the address of a function that only the RPC plug-in has (ggml_backend_reg_get_proc_address).

    Raises:
        LibraryLoadFailed: the plug-in is not loaded.
    """
    library = _library()
    registration = library.ggml_backend_reg_by_name(b"RPC")
    address = library.ggml_backend_reg_get_proc_address(registration, name.encode()) if registration else None
    if not address:
        raise LibraryLoadFailed(rpc.PLUGIN, f"it is not loaded, or has no {name}")
    return int(address)


def cpu_buffer_type() -> int:
    """Return llama.cpp's handle of plain RAM (ggml_backend_cpu_buffer_type)."""
    return int(_library().ggml_backend_cpu_buffer_type())


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
    has_cpu = any(device.kind == "cpu" for device in devices())
    # Of the CPU plug-ins, the best for this processor was chosen: the others are meant to stay away.
    suspects = (tried if accelerators else []) if has_cpu else plugins.among(directory)
    failed = tuple(_failures(library, directory, suspects, crashing))
    found = devices()
    if not has_cpu:
        reasons = "; ".join(f"{plugin.name}: {plugin.reason}" for plugin in failed)
        raise LibraryLoadFailed(str(directory), reasons or "it has no CPU plug-in")
    version = f"{library.llama_version().decode()} ({library.ggml_commit().decode()})"
    return LoadedLibraries(directory, version, _processor(library), found, failed)


def _import_bindings(directory: Path) -> Any:
    """Import llama_cpp on the libraries in ``directory``; return the CDLL with our prototypes declared."""
    os.environ["LLAMA_CPP_LIB_PATH"] = str(directory)
    try:
        import llama_cpp  # noqa: PLC0415 - it loads the library on import
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        raise LibraryLoadFailed(str(directory / _CORE_LIBRARY), str(error)) from error
    used = Path(llama_cpp.llama_cpp._base_path).resolve()
    if used != directory:
        raise LibraryLoadFailed(str(directory), f"the bindings were imported before, with {used}")
    # The bindings install a callback of their own, which prints to stderr.
    _process.log_callback = llama_cpp.llama_log_callback(_process.log)
    llama_cpp.llama_log_set(_process.log_callback, None)
    return _library()


def functions(prototypes: Mapping[str, tuple[Any, ...]]) -> Any:
    """Return the loaded libraries as a CDLL, with more functions declared: a result type, then arguments."""
    return _declare(_library(), prototypes)


def _library() -> Any:
    """Return the bindings' CDLL: the ggml functions they lack are found through its dependencies."""
    import llama_cpp  # noqa: PLC0415 - only after the library's path is set

    return _declare(llama_cpp.llama_cpp._lib, _PROTOTYPES)


def _declare(library: Any, prototypes: Mapping[str, tuple[Any, ...]]) -> Any:
    for name, (result, *arguments) in prototypes.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


_SIZE = ctypes.POINTER(ctypes.c_size_t)
_PROTOTYPES: dict[str, tuple[Any, ...]] = {
    "ggml_backend_load_all_from_path": (None, ctypes.c_char_p),
    "ggml_backend_load": (ctypes.c_void_p, ctypes.c_char_p),
    "ggml_backend_reg_by_name": (ctypes.c_void_p, ctypes.c_char_p),
    "ggml_backend_reg_dev_count": (ctypes.c_size_t, ctypes.c_void_p),
    "ggml_backend_reg_dev_get": (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t),
    "ggml_backend_reg_get_proc_address": (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p),
    "ggml_backend_dev_count": (ctypes.c_size_t,),
    "ggml_backend_dev_get": (ctypes.c_void_p, ctypes.c_size_t),
    "ggml_backend_dev_by_name": (ctypes.c_void_p, ctypes.c_char_p),
    "ggml_backend_cpu_buffer_type": (ctypes.c_void_p,),
    "ggml_backend_dev_name": (ctypes.c_char_p, ctypes.c_void_p),
    "ggml_backend_dev_description": (ctypes.c_char_p, ctypes.c_void_p),
    "ggml_backend_dev_type": (ctypes.c_int, ctypes.c_void_p),
    "ggml_backend_dev_memory": (None, ctypes.c_void_p, _SIZE, _SIZE),
    "ggml_commit": (ctypes.c_char_p,),
    "llama_version": (ctypes.c_char_p,),
    "dladdr": (ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p),
}


def _device(library: Any, handle: int) -> Device | None:
    kind = _KINDS.get(library.ggml_backend_dev_type(handle))
    if kind is None:
        return None
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    library.ggml_backend_dev_memory(handle, ctypes.byref(free), ctypes.byref(total))
    return Device(
        name=library.ggml_backend_dev_name(handle).decode("utf-8", errors="replace"),
        description=library.ggml_backend_dev_description(handle).decode("utf-8", errors="replace"),
        kind=kind,
        memory_total=total.value,
        memory_free=free.value,
    )


def _lent(lent: rpc.LentDevice) -> int | None:
    """Return the handle of a worker's device (ggml_backend_rpc_add_server); None if there is none."""
    try:
        if lent.number >= len(rpc.look(lent.address)):
            return None
        address = rpc_function("ggml_backend_rpc_add_server")
    except (OSError, LibraryLoadFailed) as error:
        log.warning("%s: %s", lent.name, error)
        return None
    add = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_char_p)(address)
    worker = add(lent.address.encode())
    handle = _library().ggml_backend_reg_dev_get(worker, lent.number) if worker else None
    return int(handle) if handle else None


class _Origin(ctypes.Structure):
    """Dl_info of <dlfcn.h>: where an address of this process comes from."""

    _fields_ = (
        ("file", ctypes.c_char_p),
        ("base", ctypes.c_void_p),
        ("symbol", ctypes.c_char_p),
        ("address", ctypes.c_void_p),
    )


def _processor(library: Any) -> str:
    """Return the CPU's plug-in: the file that its registration, a static object, lies in (dladdr)."""
    registration = library.ggml_backend_reg_by_name(b"CPU")
    origin = _Origin()
    if not library.dladdr(ctypes.c_void_p(registration), ctypes.byref(origin)):
        raise LibraryLoadFailed(_CORE_LIBRARY, "the CPU's back end lies in none of the loaded libraries")
    return plugins.name(Path(os.fsdecode(origin.file)))


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
