"""llama.cpp's libraries and tools on this machine: find them, load them safely, reach their functions.

Names in parentheses are functions of the pinned llama.cpp, in ``ggml-backend.h`` and ``llama.h``.
"""

from kylin_gguf.native.devices import cpu_buffer_type, device_handle, devices
from kylin_gguf.native.finding import NativeLibraries, find
from kylin_gguf.native.functions import functions, rpc_function
from kylin_gguf.native.loading import LoadedLibraries, capture_log, load

__all__ = [
    "LoadedLibraries",
    "NativeLibraries",
    "capture_log",
    "cpu_buffer_type",
    "device_handle",
    "devices",
    "find",
    "functions",
    "load",
    "rpc_function",
]
