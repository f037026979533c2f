"""How long a conversion will take here, and how much memory: said before it begins, and only about right.

Reading text with a model is matrix products, so this machine's speed at those is measured with NumPy (some
30 ms) and held against how many a step has.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence

import numpy as np

from kylin_convert import calibration, imatrix, verify
from kylin_gguf.records import Settings

_PROBE = 768
_WRITE_BYTES_A_SECOND = 400e6
"""Hashing and writing a checkpoint; half of what an NVMe disk does."""
_QUANTISED_A_SECOND = 15e6
"""Weights a thread quantises to a k-quant with an importance matrix."""
_WORKING_BYTES = 512 << 20
"""llama.cpp's own buffers, Python, and the rows that are being quantised."""


def operations_a_second() -> float:
    """Return how many multiplications and additions this machine does in a second, in a matrix product."""
    values = np.full((_PROBE, _PROBE), 0.5, np.float32)
    best = min(_seconds(values) for _ in range(3))
    return 2 * float(_PROBE) ** 3 / best


def _seconds(values: np.ndarray) -> float:
    started = time.perf_counter()
    values @ values
    return time.perf_counter() - started


def seconds(
    steps: Sequence[str], parameters: int, unquantised_bytes: int, settings: Settings
) -> Mapping[str, int]:
    """Return about how many seconds each of ``steps`` takes, at least 1."""
    threads = settings.threads or len(os.sched_getaffinity(0))
    a_token = 2 * parameters / operations_a_second()
    verified = len(calibration.LANGUAGES) * 2 * verify.SAMPLING.context * verify.SAMPLING.chunks
    known = {
        "write": unquantised_bytes / _WRITE_BYTES_A_SECOND,
        "place": unquantised_bytes / _WRITE_BYTES_A_SECOND,
        "imatrix": a_token * imatrix.CONTEXT * imatrix.MAX_CHUNKS,
        "quantise": parameters / threads / _QUANTISED_A_SECOND,
        "verify": a_token * verified,
    }
    return {step: max(1, round(known[step])) for step in steps}


def memory(unquantised_bytes: int, vocabulary: int) -> int:
    """Return the memory that the largest step takes at best speed: the mapped file, and a chunk's logits."""
    return unquantised_bytes + 4 * vocabulary * imatrix.CONTEXT + _WORKING_BYTES
