"""Lend this machine's devices to other machines: llama.cpp's RPC server, with limits that it lacks.

Whoever reaches its port may use it: the protocol knows no password and is not encrypted, and its parser is
not made for enemies. Names in parentheses are of ``ggml-rpc.h`` and ``ggml-backend-impl.h``.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import socket
from collections.abc import Callable, Sequence
from ipaddress import AddressValueError, IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from kylin_gguf import native, plugins, rpc
from kylin_gguf.errors import InvalidValue, LibraryLoadFailed, PluginMissing
from kylin_gguf.offload import machine
from kylin_gguf.offload.processors import useful_cores
from kylin_gguf.records import Device, Settings

_OWN_NETWORKS = tuple(
    map(
        IPv4Network,
        # Loopback, private networks (RFC 1918), and the range that VPNs such as Tailscale use (RFC 6598).
        ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"),
    )
)
_RAM_SHARE = 0.9
"""What the lender keeps of RAM, as a planner does on its own machine."""
_RECEIVED = 512 << 20
"""RAM beyond what is lent: a tensor on its way into a buffer, the interpreter."""

_POINTER, _SIZE = ctypes.c_void_p, ctypes.POINTER(ctypes.c_size_t)
_GetMemory = ctypes.CFUNCTYPE(None, _POINTER, _SIZE, _SIZE)
_StartServer = ctypes.CFUNCTYPE(
    None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.POINTER(_POINTER)
)


class _Interface(ctypes.Structure):
    """The beginning of a ggml_backend_device (ggml_backend_device_i)."""

    _fields_ = (("get_name", _POINTER), ("get_description", _POINTER), ("get_memory", _POINTER))


def check_address(host: str, port: int, *, anywhere: bool) -> None:
    """Refuse an address that strangers may reach, unless ``anywhere``, and one that cannot be listened on.

    Raises:
        InvalidValue: as said.
    """
    try:
        address = IPv4Address(host)
    except AddressValueError as error:
        raise InvalidValue("host", host, "an IPv4 address of this machine") from error
    if not anywhere and not any(address in network for network in _OWN_NETWORKS):
        raise InvalidValue("host", host, "an address of this machine, a private network or a VPN")
    try:
        with socket.create_server((host, port)):
            pass
    except OSError as error:
        wanted = f"an address of this machine with a free port ({error.strerror})"
        raise InvalidValue("host and port", f"{host}:{port}", wanted) from error


def serve(settings: Settings, address: str, device: str, memory: int) -> None:
    """Lend devices at ``address`` (HOST:PORT), which ``check_address`` allows, until a signal ends this
    process.

    ``device``: the only one; empty: all GPUs, or the processor where there is none. ``memory``: the most
    bytes of each; 0: what is free, less what a desktop needs.

    Raises:
        PluginMissing: of the RPC plug-in.
        LibrariesMissing, LibraryLoadFailed: llama.cpp is not there or does not load, or its server gives up.
        DeviceMissing: there is no ``device``.
    """
    loaded = native.load(settings)
    if not (loaded.directory / rpc.PLUGIN).is_file():
        raise PluginMissing(plugins.name(Path(rpc.PLUGIN)))
    chosen = _chosen(loaded.devices, device)
    handles = [native.device_handle(one.name) for one in chosen]
    kept = [_state(handle, one, memory) for handle, one in zip(handles, chosen, strict=True)]
    if memory and all(one.kind == "cpu" for one in chosen):
        limit = _data_size() + memory + _RECEIVED
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for number in (signal.SIGINT, signal.SIGTERM):  # Python's own handlers would wait for the server's end
        signal.signal(number, signal.SIG_DFL)
    start = _StartServer(native.rpc_function("ggml_backend_rpc_start_server"))
    array = (_POINTER * len(handles))(*handles)
    start(address.encode(), None, settings.threads or useful_cores(), len(handles), array)
    raise LibraryLoadFailed(rpc.PLUGIN, f"its server ended, which lent {len(kept)} devices")


def _chosen(found: Sequence[Device], name: str) -> list[Device]:
    if name:
        native.device_handle(name)  # or DeviceMissing
        return [device for device in found if device.name == name]
    gpus = [device for device in found if device.kind in ("gpu", "igpu") and not device.software]
    return gpus or [device for device in found if device.kind == "cpu"]


def _state(handle: int, device: Device, memory: int) -> object:
    """Have llama.cpp's ``device`` state what it lends instead of what there is (get_memory); return what must
    stay alive for that."""
    interface = _Interface.from_address(handle)
    original = _GetMemory(interface.get_memory)
    room = _ram_room(memory) if device.kind == "cpu" else _gpu_room(handle, original, memory)

    def stated(_: int, free: Any, total: Any) -> None:
        left, everything = room()
        free[0] = left
        total[0] = min(memory, everything) if memory else everything

    callback = _GetMemory(stated)
    interface.get_memory = ctypes.cast(callback, _POINTER).value
    return callback


def _ram_room(memory: int) -> Callable[[], tuple[int, int]]:
    """Return what tells the RAM that is left to lend, and all there is."""
    pages, page = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    before = _data_size()

    def room() -> tuple[int, int]:
        left = int(machine.available_memory() * _RAM_SHARE)
        if memory:
            left = min(left, memory - (_data_size() - before))
        return max(left, 0), pages * page

    return room


def _gpu_room(handle: int, original: Any, memory: int) -> Callable[[], tuple[int, int]]:
    """Return the same for a GPU, whose memory others may take, too."""

    def seen() -> tuple[int, int]:
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        original(handle, ctypes.byref(free), ctypes.byref(total))
        return free.value, total.value

    before, _ = seen()

    def room() -> tuple[int, int]:
        free, total = seen()
        left = free - machine.GPU_MARGIN
        if memory:
            left = min(left, memory - (before - free))
        return max(left, 0), total

    return room


def _data_size() -> int:
    """Return the bytes that RLIMIT_DATA counts, and stacks (proc(5), statm)."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[5]) * os.sysconf("SC_PAGE_SIZE")
