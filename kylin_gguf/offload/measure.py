"""Child process of ``offload.speeds``: time each device's matrix products and print its speeds.

One product with a vector reads a matrix once, as a generated token does; one with 512 columns costs
arithmetic, as a prompt does; a chain of operations on next to nothing costs what starting them does. Weights
are Q8_0 and as they lie in a file, not repacked. Of a device that another machine lends, the way there is
timed, too.
"""

from __future__ import annotations

import ctypes
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

from kylin_gguf import config, native, rpc
from kylin_gguf.errors import KylinError

_Q8_0, _F32 = 8, 0  # enum ggml_type
_Q8_0_BYTES = 34 / 32  # a value
_WIDTH, _ROWS, _FEW_ROWS, _COLUMNS = 4096, 32768, 4096, 512
"""The matrix that is read has 143 MB, more than caches hold; the one that is computed with has fewer rows."""
_NARROW, _FEW_LAYERS, _LAYERS = 256, 4, 12
_PRODUCTS, _OTHERS = 7, 12
"""Operations of a layer as Llama and most of its kind have it: queries, keys, values, what attention gives
and a network of three matrices; and two norms with their weights, rotations, cells to write, attention, sums.
What more layers take longer counts, since each run waits for an answer once. So few layers that some run goes
through between two turns of other programs."""
_SECONDS = 0.1
"""How long a product is repeated, after a first time that does not count."""
_CONTEXT_BYTES = 1 << 20
_SENT_BYTES = 16 << 20
_QUESTIONS = 20


class _InitParams(ctypes.Structure):
    """struct ggml_init_params."""

    _fields_ = (("size", ctypes.c_size_t), ("buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool))


_POINTER = ctypes.c_void_p
_PROTOTYPES: dict[str, tuple[Any, ...]] = {
    "ggml_init": (_POINTER, _InitParams),
    "ggml_free": (None, _POINTER),
    "ggml_new_tensor_2d": (_POINTER, _POINTER, ctypes.c_int, ctypes.c_int64, ctypes.c_int64),
    "ggml_mul_mat": (_POINTER, _POINTER, _POINTER, _POINTER),
    "ggml_rms_norm": (_POINTER, _POINTER, _POINTER, ctypes.c_float),
    "ggml_new_graph": (_POINTER, _POINTER),
    "ggml_build_forward_expand": (None, _POINTER, _POINTER),
    "ggml_backend_dev_init": (_POINTER, _POINTER, ctypes.c_char_p),
    "ggml_backend_free": (None, _POINTER),
    "ggml_backend_alloc_ctx_tensors": (_POINTER, _POINTER, _POINTER),
    "ggml_backend_buffer_clear": (None, _POINTER, ctypes.c_uint8),
    "ggml_backend_buffer_free": (None, _POINTER),
    "ggml_backend_graph_compute": (ctypes.c_int, _POINTER, _POINTER),
    "ggml_backend_synchronize": (None, _POINTER),
    "ggml_backend_tensor_set": (None, _POINTER, _POINTER, ctypes.c_size_t, ctypes.c_size_t),
    "ggml_backend_tensor_get": (None, _POINTER, _POINTER, ctypes.c_size_t, ctypes.c_size_t),
    "ggml_backend_dev_backend_reg": (_POINTER, _POINTER),
    "ggml_backend_reg_get_proc_address": (_POINTER, _POINTER, ctypes.c_char_p),
}


class Measured(NamedTuple):
    """Bytes read, operations done, bytes sent, all in a second; the seconds that an answer takes, and those
    that a layer's operations do. ``link`` and ``delay`` are 0 for what is not remote."""

    bandwidth: float
    compute: float
    link: float = 0.0
    delay: float = 0.0
    layer: float = 0.0


Clock = Callable[[], float]


def measured(name: str, threads: int) -> Measured:
    """Return the speeds of the device ``name``; ``threads``, if not 0, say that it is the processor.

    Raises:
        MemoryError: the device does not give 150 MB.
        RuntimeError: its driver fails.
    """
    library = native.functions(_PROTOTYPES)
    handle = native.device_handle(name)
    backend = library.ggml_backend_dev_init(handle, None)
    if not backend:
        raise RuntimeError(f"{name} cannot be used")
    try:
        if threads:
            return _of_processor(library, handle, backend, threads)
        link, delay = _way(library, backend) if rpc.named(name) else (0.0, 0.0)
        return _speeds(library, backend, time.perf_counter)._replace(link=link, delay=delay)
    finally:
        library.ggml_backend_free(backend)


def _of_processor(library: Any, handle: int, backend: int, threads: int) -> Measured:
    """Return the better of what ``threads`` do, and what one does in the time that it had the processor.
    Beside other programs the threads wait for each other, so that together they seem up to a hundred times
    slower; one thread's own time is the same."""
    _use_threads(library, handle, backend, threads)
    together = _speeds(library, backend, time.perf_counter)
    _use_threads(library, handle, backend, 1)
    alone = _speeds(library, backend, time.thread_time)
    layer = min(filter(None, (together.layer, alone.layer)), default=0.0)
    return Measured(*map(max, together, alone))._replace(layer=layer)


def _speeds(library: Any, backend: int, clock: Clock) -> Measured:
    """Return the speeds of what a ``backend`` computes with, in seconds of ``clock``."""
    reading = _seconds(library, backend, clock, partial(_product, library, _ROWS, 1))
    computing = _seconds(library, backend, clock, partial(_product, library, _FEW_ROWS, _COLUMNS))
    few, many = (
        _seconds(library, backend, clock, partial(_chain, library, count)) for count in (_FEW_LAYERS, _LAYERS)
    )
    return Measured(
        bandwidth=_WIDTH * _ROWS * _Q8_0_BYTES / reading,
        compute=2 * _WIDTH * _FEW_ROWS * _COLUMNS / computing,
        layer=max(many - few, 0.0) / (_LAYERS - _FEW_LAYERS),
    )


def _way(library: Any, backend: int) -> tuple[float, float]:
    """Return how many bytes a second get to a remote device, and after how many seconds it answers."""
    with _context(library) as context:
        tensor = library.ggml_new_tensor_2d(context, _F32, _SENT_BYTES // 4, 1)
        buffer = library.ggml_backend_alloc_ctx_tensors(context, backend)
        if not buffer:
            raise MemoryError
        try:
            delays = [_answered(library, tensor, 0) for _ in range(_QUESTIONS)]
            sent = min(_answered(library, tensor, _SENT_BYTES) for _ in range(2))
        finally:
            library.ggml_backend_buffer_free(buffer)
    return _SENT_BYTES / max(sent - min(delays), 1e-9), min(delays)


def _answered(library: Any, tensor: int, size: int) -> float:
    """Return the seconds until ``size`` bytes are in ``tensor``: what is sent is not acknowledged, and a
    value that is read comes after it."""
    data, value = ctypes.create_string_buffer(size), ctypes.c_float()
    began = time.perf_counter()
    if size:
        library.ggml_backend_tensor_set(tensor, data, 0, size)
    library.ggml_backend_tensor_get(tensor, ctypes.byref(value), 0, ctypes.sizeof(value))
    return time.perf_counter() - began


def _use_threads(library: Any, handle: int, backend: int, threads: int) -> None:
    """Have the processor's back end use ``threads``: by itself it takes four."""
    registration = library.ggml_backend_dev_backend_reg(handle)
    address = library.ggml_backend_reg_get_proc_address(registration, b"ggml_backend_set_n_threads")
    ctypes.CFUNCTYPE(None, _POINTER, ctypes.c_int)(address)(backend, threads)


def _product(library: Any, rows: int, columns: int, context: int) -> int:
    """Return the product of a matrix of ``rows`` x ``_WIDTH`` with ``columns`` columns."""
    weights = library.ggml_new_tensor_2d(context, _Q8_0, _WIDTH, rows)
    values = library.ggml_new_tensor_2d(context, _F32, _WIDTH, columns)
    return int(library.ggml_mul_mat(context, weights, values))


def _chain(library: Any, layers: int, context: int) -> int:
    """Return the end of a chain with as many operations as ``layers`` layers have, each on what the one
    before it gave. None are fused: back ends do that to a norm with its weights, and to sums."""
    weights = library.ggml_new_tensor_2d(context, _Q8_0, _NARROW, _NARROW)
    values = library.ggml_new_tensor_2d(context, _F32, _NARROW, 1)
    for _ in range(layers):
        for number in range(_PRODUCTS + _OTHERS):
            if number < 2 * _PRODUCTS and number % 2:
                values = library.ggml_mul_mat(context, weights, values)
            else:
                values = library.ggml_rms_norm(context, values, 1.0)
    return int(values)


def _seconds(library: Any, backend: int, clock: Clock, build: Callable[[int], int]) -> float:
    """Return how long the tensor that ``build`` defines in a context takes to compute at best."""
    with _context(library) as context:
        result = build(context)
        graph = library.ggml_new_graph(context)
        library.ggml_build_forward_expand(graph, result)
        buffer = library.ggml_backend_alloc_ctx_tensors(context, backend)
        if not buffer:
            raise MemoryError
        try:
            library.ggml_backend_buffer_clear(buffer, 0)
            _run(library, backend, clock, graph, result)
            best, end = float("inf"), time.perf_counter() + _SECONDS
            while time.perf_counter() < end:
                best = min(best, _run(library, backend, clock, graph, result))
        finally:
            library.ggml_backend_buffer_free(buffer)
    return best


def _run(library: Any, backend: int, clock: Clock, graph: int, result: int) -> float:
    value = ctypes.c_float()
    began = clock()
    if library.ggml_backend_graph_compute(backend, graph) != 0:
        raise RuntimeError("ggml_backend_graph_compute failed")
    library.ggml_backend_synchronize(backend)
    # A remote device has only been told to compute; a value of the result is there when it is done.
    library.ggml_backend_tensor_get(result, ctypes.byref(value), 0, ctypes.sizeof(value))
    return clock() - began


@contextmanager
def _context(library: Any) -> Iterator[int]:
    context = library.ggml_init(_InitParams(_CONTEXT_BYTES, None, True))
    try:
        yield context
    finally:
        library.ggml_free(context)


def main() -> None:
    """Print a JSON object a line for each device named in the arguments after the number of threads:
    ``{"name"}`` and the fields of ``Measured``. One whose driver kills this process leaves the lines before
    it."""
    threads, names = int(sys.argv[1]), sys.argv[2:]
    processors = [device.name for device in native.load(config.load()).devices if device.kind == "cpu"]
    for name in names:
        try:
            found = measured(name, threads if name in processors else 0)
        except (KylinError, MemoryError, RuntimeError) as error:
            print(f"{name}: {error or 'no memory'}", file=sys.stderr)
            continue
        print(json.dumps({"name": name, **found._asdict()}), flush=True)


if __name__ == "__main__":
    main()
