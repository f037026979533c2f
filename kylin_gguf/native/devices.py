"""The devices of the back ends that this process has loaded, and llama.cpp's handles of them."""

from __future__ import annotations

import ctypes
import logging
from typing import Any

from kylin_gguf import rpc
from kylin_gguf.errors import DeviceMissing, LibraryLoadFailed
from kylin_gguf.native import registration
from kylin_gguf.native.functions import libraries, rpc_function
from kylin_gguf.records import Device, DeviceKind

log = logging.getLogger(__name__)

# enum ggml_backend_dev_type; its fifth, "meta", exists only for those who make one.
_KINDS: dict[int, DeviceKind] = {0: "cpu", 1: "gpu", 2: "igpu", 3: "accel"}


def devices() -> tuple[Device, ...]:
    """Return the loaded back ends' devices with their memory as it is now; ``load`` must have been called.

    For the CPU, llama.cpp reports all memory as free (``ggml_backend_dev_memory``).
    """
    library = libraries()
    handles = (library.ggml_backend_dev_get(index) for index in range(library.ggml_backend_dev_count()))
    return tuple(device for handle in handles if (device := _device(library, handle)) is not None)


def device_handle(name: str) -> int:
    """Return llama.cpp's handle of a device (ggml_backend_dev_by_name); ``load`` must have been called.

    One that an RPC worker lends is asked for there, which can end this process if the worker goes meanwhile.

    Raises:
        DeviceMissing: no loaded back end has it, or its worker does not answer.
    """
    lent = rpc.named(name)
    handle = _lent(lent) if lent else libraries().ggml_backend_dev_by_name(name.encode())
    if not handle:
        raise DeviceMissing(name, tuple(device.name for device in devices()))
    return int(handle)


def cpu_buffer_type() -> int:
    """Return llama.cpp's handle of plain RAM (ggml_backend_cpu_buffer_type)."""
    return int(libraries().ggml_backend_cpu_buffer_type())


def _device(library: Any, handle: int) -> Device | None:
    kind = _KINDS.get(library.ggml_backend_dev_type(handle))
    if kind is None:
        return None
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    library.ggml_backend_dev_memory(handle, ctypes.byref(free), ctypes.byref(total))
    registered = library.ggml_backend_dev_backend_reg(handle)
    return Device(
        name=library.ggml_backend_dev_name(handle).decode("utf-8", errors="replace"),
        description=library.ggml_backend_dev_description(handle).decode("utf-8", errors="replace"),
        kind=kind,
        memory_total=total.value,
        memory_free=free.value,
        plugin=registration.plugin(library, registered),
        features=tuple(registration.features(library, registered)),
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
    handle = libraries().ggml_backend_reg_dev_get(worker, lent.number) if worker else None
    return int(handle) if handle else None
