"""How fast one core of this machine multiplies matrices; run by ``estimate`` as a process of its own.

NumPy's matrix product takes its number of threads from the environment, before it is loaded.
"""

from __future__ import annotations

import time

import numpy as np

_SIZE = 768
_ATTEMPTS = 12
"""The best counts: whoever else computes slows some of them down."""


def operations_a_second() -> float:
    """Return how many multiplications and additions of float32 a matrix product does in a second."""
    values = np.full((_SIZE, _SIZE), 0.5, np.float32)
    return 2 * float(_SIZE) ** 3 / min(_seconds(values) for _ in range(_ATTEMPTS))


def _seconds(values: np.ndarray) -> float:
    started = time.perf_counter()
    values @ values
    return time.perf_counter() - started


if __name__ == "__main__":
    print(operations_a_second())
