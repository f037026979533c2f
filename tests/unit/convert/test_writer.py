"""What the writer holds in memory, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type

from kylin_convert import writer
from kylin_convert.safetensors import StoredTensor
from kylin_gguf.errors import BadCheckpoint

MEBI = 1 << 20


def resident_of_files() -> int:
    """Return how many bytes of mapped files this process has in memory (proc(5), RssFile)."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssFile:"))


def test_a_tensor_that_is_read_in_blocks_does_not_stay_in_memory(tmp_path: Path) -> None:
    rows = 64 * MEBI // 2
    values = np.arange(rows, dtype=np.float16)
    path = tmp_path / "weights"
    values.tofile(path)
    tensor = StoredTensor(path, "w", "F16", (rows // 64, 64), 0, values.nbytes)
    before = resident_of_files()
    most, read = 0, []
    for block in writer._blocks(tensor.map()):
        read.append(np.array(block))
        most = max(most, resident_of_files() - before)
    assert np.array_equal(np.concatenate(read), values, equal_nan=True)
    assert most < 2 * writer._BLOCK_ELEMENTS * 2


@pytest.mark.parametrize("kind", [Type.F16, Type.F32, Type.BF16])
@pytest.mark.parametrize("stored", ["F16", "BF16", "F32"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_are_refused_in_every_form(kind: Type, stored: str, value: float) -> None:
    values = np.ones(64, dtype=np.float32)
    values[63] = value
    with pytest.raises(BadCheckpoint, match="not finite"):
        writer._convert("w", _stored(values, stored), kind)


@pytest.mark.parametrize("kind", [Type.F16, Type.BF16, Type.F32])
@pytest.mark.parametrize("stored", ["F16", "BF16", "F32"])
def test_every_number_is_written(kind: Type, stored: str) -> None:
    # The largest that all three can hold, the smallest of F16, and both zeros.
    values = np.array([65280, -65280, 2**-24, 0.0, -0.0, 1.5], dtype=np.float32)
    written = writer._convert("w", _stored(values, stored), kind)
    assert np.array_equal(gguf.quants.dequantize(written.view(np.uint8), kind), values)


def _stored(values: np.ndarray[Any, Any], dtype: str) -> np.ndarray[Any, Any]:
    if dtype == "BF16":
        return (values.view(np.uint32) >> 16).astype(np.uint16)
    return values.astype({"F16": np.float16, "F32": np.float32}[dtype])


def test_values_too_large_for_f16_are_refused() -> None:
    with pytest.raises(BadCheckpoint, match="too large for F16"):
        writer._convert("w", np.full(4, 1e6, np.float32), Type.F16)
