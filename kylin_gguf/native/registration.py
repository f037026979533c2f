"""What a back end's registration (``ggml_backend_reg``) tells of it: the plug-in, and its features."""

from __future__ import annotations

import ctypes
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kylin_gguf import plugins


class _Origin(ctypes.Structure):
    """Dl_info of <dlfcn.h>: where an address of this process comes from."""

    _fields_ = (
        ("file", ctypes.c_char_p),
        ("base", ctypes.c_void_p),
        ("symbol", ctypes.c_char_p),
        ("address", ctypes.c_void_p),
    )


def plugin(library: Any, registered: int) -> str:
    """Return a back end's plug-in: the file that its registration lies in, a static object where it is one
    of llama.cpp's own (dladdr); empty where it is not."""
    origin = _Origin()
    found = library.dladdr(ctypes.c_void_p(registered), ctypes.byref(origin))
    return plugins.name(Path(os.fsdecode(origin.file))) if found else ""


class _Feature(ctypes.Structure):
    """ggml_backend_feature; the last of a list has no name."""

    _fields_ = (("name", ctypes.c_char_p), ("value", ctypes.c_char_p))


def features(library: Any, registered: int) -> Iterator[str]:
    """Yield what a back end can do, as records.Device has it; not all back ends tell
    (ggml_backend_get_features)."""
    address = library.ggml_backend_reg_get_proc_address(registered, b"ggml_backend_get_features")
    if not address:
        return
    listed = ctypes.CFUNCTYPE(ctypes.POINTER(_Feature), ctypes.c_void_p)(address)(registered)
    for feature in itertools.takewhile(lambda feature: feature.name, listed):
        name, value = (text.decode("utf-8", errors="replace") for text in (feature.name, feature.value))
        yield name if value == "1" else f"{name}={value}"
