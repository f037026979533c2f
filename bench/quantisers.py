"""Do two builds of libggml-base quantise alike, and how long does each take?

    python -m bench.quantisers DIRECTORY

Quantises the same numbers with the library in use and with the one in ``DIRECTORY``, a build of the same
llama.cpp with other patches: weights of many shapes, from plain ones to blocks of zeros and values that
overflow, with importances of four kinds and without. Prints the nanoseconds a weight takes each, and raises
if a byte differs.
"""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Callable, Iterator
from ctypes import c_int, c_int64, c_size_t, c_void_p
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType as Type
from numpy.typing import NDArray

from kylin_gguf import config, native

Floats = NDArray[np.float32]
Quantiser = Callable[[Type, Floats, Floats | None], bytes]

TYPES = (Type.Q2_K, Type.Q3_K, Type.Q4_K, Type.Q5_K, Type.Q6_K)
ROWS, COLUMNS = 64, 2048
_RARE, _OFTEN = 0.03, 0.5
_LIBRARY = "libggml-base.so"


def opened(library: Path) -> Quantiser:
    """Return ``ggml_quantize_chunk`` of a library, for numbers of shape (rows, columns)."""
    function = ctypes.CDLL(str(library)).ggml_quantize_chunk
    function.restype = c_size_t
    function.argtypes = (c_int, c_void_p, c_void_p, c_int64, c_int64, c_int64, c_void_p)

    def quantise(kind: Type, values: Floats, importance: Floats | None) -> bytes:
        made = np.zeros(values.nbytes, np.uint8)
        weights = None if importance is None else importance.ctypes.data
        used = function(kind.value, values.ctypes.data, made.ctypes.data, 0, *values.shape, weights)
        return made[:used].tobytes()

    return quantise


def weights(random: np.random.Generator) -> Iterator[tuple[str, Floats]]:
    """Yield what is quantised and what it is called."""
    normal = random.standard_normal((ROWS, COLUMNS))
    some = random.random((ROWS, COLUMNS // 16)).repeat(16, axis=1)
    shapes: dict[str, NDArray[Any]] = {
        "normal": normal * 0.02,
        "heavy tails": normal**5,
        "positive": np.abs(normal),
        "negative": -np.abs(normal) - 1,
        "far from zero": normal * 1e-3 + 100,
        "zeros": normal * 0,
        "blocks of zeros": np.where(some < _OFTEN, 0, normal),
        "constant blocks": some,
        "few values": random.integers(-2, 3, normal.shape),
        "sparse": np.where(random.random(normal.shape) < _RARE, normal, 0),
        "outliers": np.where(random.random(normal.shape) < _RARE, normal * 1000, normal),
        "subnormal": normal * 1e-42,
        "overflowing": normal * 1e30,
    }
    for name, values in shapes.items():
        yield name, np.ascontiguousarray(values, np.float32)


def importances(random: np.random.Generator) -> Iterator[Floats | None]:
    """Yield none, and what a matrix may hold."""
    yield None
    even = random.random(COLUMNS)
    wide = np.exp(8 * random.standard_normal(COLUMNS))
    for values in (even, np.where(even < _OFTEN, 0, even), np.zeros(COLUMNS), wide):
        yield values.astype(np.float32)


def main() -> None:
    """Compare, and print a table."""
    directories = (native.find(config.load()).directory, Path(sys.argv[1]).resolve())
    quantisers = [opened(directory / _LIBRARY) for directory in directories]
    random = np.random.default_rng(1)
    compared, seconds = 0, np.zeros((len(TYPES), 2, 2))
    for name, values in weights(random):
        for importance in importances(random):
            for row, kind in enumerate(TYPES):
                made = []
                for column, quantise in enumerate(quantisers):
                    started = time.thread_time()
                    made.append(quantise(kind, values, importance))
                    seconds[row, int(importance is not None), column] += time.thread_time() - started
                assert made[0] == made[1], f"{kind.name} of {name} differs"
                compared += 1
    shapes = compared // len(TYPES)
    print(f"{compared} results are the same to the last byte")
    print("type   plain: here, there   with a matrix: here, there   (ns a weight)")
    per_weight = seconds * 1e9 / (values.size * np.array([shapes / 5, shapes * 4 / 5])[None, :, None])
    for kind, (plain, weighed) in zip(TYPES, per_weight, strict=True):
        print(f"{kind.name}  {plain[0]:10.1f} {plain[1]:8.1f} {weighed[0]:18.1f} {weighed[1]:8.1f}")


if __name__ == "__main__":
    main()
