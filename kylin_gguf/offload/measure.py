"""Child process of ``offload.speeds``: time each device's matrix products and print its speeds.

One product with a vector reads a matrix once, as a generated token does; one with 512 columns costs
arithmetic, as a prompt does. Weights are Q8_0 and as they lie in a file, not repacked.
"""

from __future__ import annotations

import ctypes
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kylin_gguf import config, native
from kylin_gguf.errors import KylinError
from kylin_gguf.records import Device

_Q8_0, _F32 = 8, 0  # enum ggml_type
_Q8_0_BYTES = 34 / 32  # a value
_WIDTH, _ROWS, _FEW_ROWS, _COLUMNS = 4096, 32768, 4096, 512
"""The matrix that is read has 143 MB, more than caches hold; the one that is computed with has fewer rows."""
_SECONDS = 0.15
"""How long a product is repeated, after a first time that does not count."""
_CONTEXT_BYTES = 1 << 20


class _InitParams(ctypes.Structure):
    """struct ggml_init_params."""

    _fields_ = (("size", ctypes.c_size_t), ("buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool))


_POINTER = ctypes.c_void_p
_PROTOTYPES: dict[str, tuple[Any, ...]] = {
    "ggml_init": (_POINTER, _InitParams),
    "ggml_free": (None, _POINTER),
    "ggml_new_tensor_2d": (_POINTER, _POINTER, ctypes.c_int, ctypes.c_int64, ctypes.c_int64),
    "ggml_mul_mat": (_POINTER, _POINTER, _POINTER, _POINTER),
    "ggml_new_graph": (_POINTER, _POINTER),
    "ggml_build_forward_expand": (None, _POINTER, _POINTER),
    "ggml_backend_dev_init": (_POINTER, _POINTER, ctypes.c_char_p),
    "ggml_backend_free": (None, _POINTER),
    "ggml_backend_alloc_ctx_tensors": (_POINTER, _POINTER, _POINTER),
    "ggml_backend_buffer_clear": (None, _POINTER, ctypes.c_uint8),
    "ggml_backend_buffer_free": (None, _POINTER),
    "ggml_backend_graph_compute": (ctypes.c_int, _POINTER, _POINTER),
    "ggml_backend_synchronize": (None, _POINTER),
    "ggml_backend_dev_backend_reg": (_POINTER, _POINTER),
    "ggml_backend_reg_get_proc_address": (_POINTER, _POINTER, ctypes.c_char_p),
}


def measured(device: Device, threads: int) -> tuple[float, float]:
    """Return the bytes that ``device`` reads and the operations that it does in a second; ``threads`` are for
    the processor.

    Raises:
        MemoryError: the device does not give 150 MB.
        RuntimeError: its driver fails.
    """
    library = native.functions(_PROTOTYPES)
    handle = native.device_handle(device.name)
    backend = library.ggml_backend_dev_init(handle, None)
    if not backend:
        raise RuntimeError(f"{device.name} cannot be used")
    try:
        if device.kind == "cpu":
            _use_threads(library, handle, backend, threads)
        reading = _seconds(library, backend, _ROWS, 1)
        computing = _seconds(library, backend, _FEW_ROWS, _COLUMNS)
    finally:
        library.ggml_backend_free(backend)
    return _WIDTH * _ROWS * _Q8_0_BYTES / reading, 2 * _WIDTH * _FEW_ROWS * _COLUMNS / computing


def _use_threads(library: Any, handle: int, backend: int, threads: int) -> None:
    """Have the processor's back end use ``threads``: by itself it takes four."""
    registration = library.ggml_backend_dev_backend_reg(handle)
    address = library.ggml_backend_reg_get_proc_address(registration, b"ggml_backend_set_n_threads")
    ctypes.CFUNCTYPE(None, _POINTER, ctypes.c_int)(address)(backend, threads)


def _seconds(library: Any, backend: int, rows: int, columns: int) -> float:
    """Return how long a product of ``rows`` x ``_WIDTH`` with ``columns`` columns takes at best."""
    with _context(library) as context:
        weights = library.ggml_new_tensor_2d(context, _Q8_0, _WIDTH, rows)
        values = library.ggml_new_tensor_2d(context, _F32, _WIDTH, columns)
        graph = library.ggml_new_graph(context)
        library.ggml_build_forward_expand(graph, library.ggml_mul_mat(context, weights, values))
        buffer = library.ggml_backend_alloc_ctx_tensors(context, backend)
        if not buffer:
            raise MemoryError
        try:
            library.ggml_backend_buffer_clear(buffer, 0)
            _run(library, backend, graph)
            best, end = float("inf"), time.perf_counter() + _SECONDS
            while time.perf_counter() < end:
                best = min(best, _run(library, backend, graph))
        finally:
            library.ggml_backend_buffer_free(buffer)
    return best


def _run(library: Any, backend: int, graph: int) -> float:
    began = time.perf_counter()
    if library.ggml_backend_graph_compute(backend, graph) != 0:
        raise RuntimeError("ggml_backend_graph_compute failed")
    library.ggml_backend_synchronize(backend)
    return time.perf_counter() - began


@contextmanager
def _context(library: Any) -> Iterator[int]:
    context = library.ggml_init(_InitParams(_CONTEXT_BYTES, None, True))
    try:
        yield context
    finally:
        library.ggml_free(context)


def main() -> None:
    """Print a JSON object a line for each device named in the arguments after the number of threads:
    ``{"name", "bandwidth", "compute"}``. One whose driver kills this process leaves the lines before it."""
    threads, names = int(sys.argv[1]), sys.argv[2:]
    for device in native.load(config.load()).devices:
        if device.name not in names:
            continue
        try:
            bandwidth, compute = measured(device, threads)
        except (KylinError, MemoryError, RuntimeError) as error:
            print(f"{device.name}: {error or 'no memory'}", file=sys.stderr)
            continue
        print(json.dumps({"name": device.name, "bandwidth": bandwidth, "compute": compute}), flush=True)


if __name__ == "__main__":
    main()
