"""Do two builds of llama.cpp multiply alike, and how long does each take?

    python -m bench.products DIRECTORY

Multiplies the same matrices with every CPU library in use that this processor can run, and with those of
the same names in ``DIRECTORY``, a build of the same llama.cpp with other patches. Raises if a bit differs.
Prints the microseconds that a token takes each, by type of weights and tokens at once, and whether a token in
a batch gets to the last bit what it gets alone.
"""

from __future__ import annotations

import ctypes
import statistics
import sys
import time
from ctypes import POINTER, c_bool, c_int, c_int64, c_size_t, c_void_p
from pathlib import Path
from typing import NamedTuple

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type
from numpy.typing import NDArray

from bench.cpu_kernels import runnable
from kylin_gguf import config, native

Floats = NDArray[np.float32]

TYPES = (Type.Q4_0, Type.Q4_1, Type.Q5_0, Type.Q8_0)
SHAPES = ((1027, 576), (37, 4864))
"""Rows and their width. Matrices of SmolLM2-135M and Qwen2.5-0.5B are as wide: of one, eight rows fit into
the first cache, of the other they do not. Odd numbers of rows leave some to the edges of every tile."""

K_TYPES = (Type.Q2_K, Type.Q3_K, Type.Q4_K, Type.Q5_K, Type.Q6_K)
K_SHAPES = ((259, 512), (37, 4864))
"""The same for k-quants, whose blocks are of 256."""

BATCHES = (1, 2, 3, 4, 5, 8, 15, 64)
REPEATS = 9

_MEMORY = 64 << 20


class _Parameters(ctypes.Structure):
    """``ggml_init_params``."""

    _fields_ = (("mem_size", c_size_t), ("mem_buffer", c_void_p), ("no_alloc", c_bool))


class Multiplier:
    """``ggml_mul_mat`` on the processor, as one CPU library computes it."""

    def __init__(self, base: ctypes.CDLL, library: ctypes.CDLL) -> None:
        self.base, self._library = base, library
        library.ggml_cpu_init()
        base.ggml_init.argtypes, base.ggml_init.restype = (_Parameters,), c_void_p
        base.ggml_new_tensor_2d.argtypes = (c_void_p, c_int, c_int64, c_int64)
        base.ggml_mul_mat.argtypes = (c_void_p, c_void_p, c_void_p)
        base.ggml_build_forward_expand.argtypes = (c_void_p, c_void_p)
        for name in ("ggml_new_graph", "ggml_get_data", "ggml_free"):
            getattr(base, name).argtypes = (c_void_p,)
        for name in ("ggml_new_tensor_2d", "ggml_mul_mat", "ggml_new_graph", "ggml_get_data"):
            getattr(base, name).restype = c_void_p
        library.ggml_graph_compute_with_ctx.argtypes = (c_void_p, c_void_p, c_int)

    def __call__(self, kind: Type, weights: NDArray[np.uint8], tokens: Floats) -> tuple[Floats, float]:
        """Return the products, of shape (tokens, rows), and the seconds that one thread took, a median."""
        ggml = self.base
        context = ggml.ggml_init(_Parameters(_MEMORY, None, False))
        rows, width = len(weights), tokens.shape[1]
        left = ggml.ggml_new_tensor_2d(context, kind.value, width, rows)
        right = ggml.ggml_new_tensor_2d(context, Type.F32.value, width, len(tokens))
        product = ggml.ggml_mul_mat(context, left, right)
        graph = ggml.ggml_new_graph(context)
        ggml.ggml_build_forward_expand(graph, product)
        for tensor, values in ((left, weights), (right, tokens)):
            ctypes.memmove(ggml.ggml_get_data(tensor), values.ctypes.data, values.nbytes)
        seconds = []
        for _ in range(REPEATS):
            started = time.thread_time()
            if status := self._library.ggml_graph_compute_with_ctx(context, graph, 1):
                raise RuntimeError(f"ggml_graph_compute_with_ctx returned {status}")
            seconds.append(time.thread_time() - started)
        found = ctypes.cast(ggml.ggml_get_data(product), POINTER(ctypes.c_float))
        copied = np.ctypeslib.as_array(found, (len(tokens), rows)).copy()
        ggml.ggml_free(context)
        return copied, statistics.median(seconds)


def numbers(base: ctypes.CDLL, kind: Type, shape: tuple[int, int]) -> tuple[NDArray[np.uint8], Floats]:
    """Return the same random weights, quantised by ggml_quantize_chunk of ``base``, and as many tokens as the
    largest batch, every time."""
    random = np.random.default_rng(1)
    uneven = np.exp(random.normal(0, 0.5, (max(BATCHES), shape[1])))
    tokens = (random.normal(size=uneven.shape) * uneven).astype(np.float32)
    weights = random.normal(0, 0.05, shape).astype(np.float32)
    block, size = gguf.GGML_QUANT_SIZES[kind]
    quantised = np.empty((shape[0], shape[1] // block * size), np.uint8)
    base.ggml_quantize_chunk.argtypes = (c_int, c_void_p, c_void_p, *[c_int64] * 3, c_void_p)
    base.ggml_quantize_chunk(kind.value, weights.ctypes.data, quantised.ctypes.data, 0, *shape, None)
    return quantised, tokens


class Compared(NamedTuple):
    """What one type of weights has shown."""

    times: dict[int, tuple[float, float]]
    """By tokens at once: the microseconds that a token takes here and there."""
    as_alone: bool
    """Whether each token of every batch got what it gets alone."""


def compare(here: Multiplier, there: Multiplier, kind: Type, shape: tuple[int, int]) -> Compared:
    """Multiply the same numbers here and there.

    Raises:
        AssertionError: A product differs.
    """
    weights, tokens = numbers(here.base, kind, shape)
    alone = np.concatenate([here(kind, weights, token[None])[0] for token in tokens])
    times, as_alone = {}, True
    for count in BATCHES:
        (ours, our_s), (theirs, their_s) = (each(kind, weights, tokens[:count]) for each in (here, there))
        assert ours.tobytes() == theirs.tobytes(), f"{kind.name} of {count} tokens differs"
        as_alone &= ours.tobytes() == alone[:count].tobytes()
        times[count] = our_s * 1e6 / count, their_s * 1e6 / count
    return Compared(times, as_alone)


def main() -> None:
    """Compare, and print a table for each library."""
    directory, other = native.find(config.load()).directory, Path(sys.argv[1]).resolve()
    base = ctypes.CDLL(str(directory / "libggml-base.so"))
    theirs = runnable(other)
    for name, library in runnable(directory).items():
        if name not in theirs:
            continue
        both = Multiplier(base, library), Multiplier(base, theirs[name])
        for rows, width in SHAPES:
            print(f"{name}, {rows} rows of {width}; tokens at once: us a token here, there")
            for kind in TYPES:
                times, as_alone = compare(*both, kind, (rows, width))
                columns = "  ".join(f"{count}: {us:.0f} {other:.0f}" for count, (us, other) in times.items())
                print(f"  {kind.name}  {columns}  {'' if as_alone else 'not '}as alone")


if __name__ == "__main__":
    main()
