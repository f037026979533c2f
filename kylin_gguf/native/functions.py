"""The C functions of the libraries that this process has loaded, and what they take and return."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any

from kylin_gguf import rpc
from kylin_gguf.errors import LibraryLoadFailed

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
    "ggml_backend_dev_backend_reg": (ctypes.c_void_p, ctypes.c_void_p),
    "ggml_backend_dev_type": (ctypes.c_int, ctypes.c_void_p),
    "ggml_backend_dev_memory": (None, ctypes.c_void_p, _SIZE, _SIZE),
    "ggml_commit": (ctypes.c_char_p,),
    "llama_version": (ctypes.c_char_p,),
    "dladdr": (ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p),
}


def libraries() -> Any:
    """Return the bindings' CDLL: the ggml functions they lack are found through its dependencies."""
    import llama_cpp  # noqa: PLC0415 - only after the library's path is set

    return _declare(llama_cpp.llama_cpp._lib, _PROTOTYPES)


def functions(prototypes: Mapping[str, tuple[Any, ...]]) -> Any:
    """Return the loaded libraries as a CDLL, with more functions declared: a result type, then arguments."""
    return _declare(libraries(), prototypes)


def rpc_function(name: str) -> int:
    """Return the address of a function that only the RPC plug-in has (ggml_backend_reg_get_proc_address).

    Raises:
        LibraryLoadFailed: the plug-in is not loaded.
    """
    library = libraries()
    registration = library.ggml_backend_reg_by_name(b"RPC")
    address = library.ggml_backend_reg_get_proc_address(registration, name.encode()) if registration else None
    if not address:
        raise LibraryLoadFailed(rpc.PLUGIN, f"it is not loaded, or has no {name}")
    return int(address)


def _declare(library: Any, prototypes: Mapping[str, tuple[Any, ...]]) -> Any:
    for name, (result, *arguments) in prototypes.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library
