"""How long a conversion will take here, and how much memory: said before it begins, and only about right.

Reading text with a model is matrix products, so this machine's speed at those is measured with NumPy (half a
second) and held against how many a step has.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence

from kylin_convert import calibration, imatrix, probe, verify
from kylin_convert.pruning import influence
from kylin_gguf.records import Settings

_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS")
"""What the libraries that NumPy may be built with read."""
_WRITE_BYTES_A_SECOND = 400e6
"""Hashing and writing a checkpoint; half of what an NVMe disk does."""
_QUANTISED_A_SECOND = 40e6
"""Weights a thread quantises to a k-quant with an importance matrix."""
_WORKING_BYTES = 512 << 20
"""llama.cpp's own buffers, Python, and the rows that are being quantised."""


def operations_a_second(threads: int) -> float:
    """Return how many multiplications and additions ``threads`` cores do in a second, in a matrix product.

    One is measured: what all do together while other programs compute, too, says little about them.
    """
    command = [sys.executable, "-P", "-m", probe.__name__]
    alone = os.environ | dict.fromkeys(_THREADS, "1")
    done = subprocess.run(command, env=alone, capture_output=True, text=True, check=True)
    return threads * float(done.stdout)


def seconds(
    steps: Sequence[str], parameters: int, unquantised_bytes: int, settings: Settings
) -> Mapping[str, int]:
    """Return about how many seconds each of ``steps`` takes, at least 1.

    Which blocks to cut is counted with one number of blocks, of which two sets are measured.
    """
    threads = settings.threads or len(os.sched_getaffinity(0))
    a_token = 2 * parameters / operations_a_second(threads)
    verified = len(calibration.LANGUAGES) * 2 * verify.SAMPLING.context * verify.SAMPLING.chunks
    known = {
        "write": unquantised_bytes / _WRITE_BYTES_A_SECOND,
        "place": unquantised_bytes / _WRITE_BYTES_A_SECOND,
        "split": unquantised_bytes / _WRITE_BYTES_A_SECOND,
        "prune": a_token * (imatrix.CONTEXT * influence.CHUNKS + verified)
        + 3 * unquantised_bytes / _WRITE_BYTES_A_SECOND,
        "imatrix": a_token * imatrix.CONTEXT * imatrix.MAX_CHUNKS,
        "quantise": parameters / threads / _QUANTISED_A_SECOND,
        "verify": a_token * verified,
    }
    return {step: max(1, round(known[step])) for step in steps}


def memory(unquantised_bytes: int, vocabulary: int) -> int:
    """Return the memory that the largest step takes at best speed: the mapped file, and a chunk's logits."""
    return unquantised_bytes + 4 * vocabulary * imatrix.CONTEXT + _WORKING_BYTES
