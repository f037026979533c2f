"""The reader of a format that arrives from strangers."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kylin_convert.safetensors import MAX_HEADER, read_header, widen
from kylin_gguf.errors import BadCheckpoint, FileMissing
from tests.tiny_checkpoint import safetensors


def _file(folder: Path, header: Any, data: bytes = b"") -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path = folder / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def test_bf16_is_widened_exactly() -> None:
    bits = np.arange(1 << 16, dtype=np.uint16)
    wide = widen(bits)
    assert wide.dtype == np.float32
    expected = b"".join(b"\x00\x00" + struct.pack("<H", pattern) for pattern in range(1 << 16))
    assert wide.tobytes() == expected


@pytest.mark.parametrize(("dtype", "stored"), [("F32", "<f4"), ("F16", "<f2"), ("F64", "<f8")])
def test_values_survive(tmp_path: Path, dtype: str, stored: str) -> None:
    values = np.arange(12, dtype=stored).reshape(3, 4) / 8
    path = tmp_path / "model.safetensors"
    path.write_bytes(safetensors({"x": (dtype, values.shape, values.tobytes())}))
    read = widen(read_header(path)["x"].map())
    assert read.dtype == (np.float16 if dtype == "F16" else np.float32)
    np.testing.assert_array_equal(read, values)


def test_an_empty_tensor_is_a_tensor(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(safetensors({"x": ("F32", (0, 4), b"")}))
    assert read_header(path)["x"].map().shape == (0, 4)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_every_truncation_is_refused(tmp_path: Path, data: st.DataObject) -> None:
    whole = safetensors({"a": ("F32", (2, 3), bytes(24)), "b": ("BF16", (5,), bytes(10))})
    path = tmp_path / "model.safetensors"
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(BadCheckpoint):
        read_header(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200))
def test_rubbish_is_refused_with_our_own_error(tmp_path: Path, rubbish: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(rubbish)
    with pytest.raises(BadCheckpoint):
        read_header(path)


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    "entry",
    [
        {**ENTRY, "dtype": "F8_E4M3"},
        {**ENTRY, "shape": [3]},
        {**ENTRY, "shape": [-1, -2]},
        {**ENTRY, "shape": [2.0]},
        {**ENTRY, "shape": [True, 2]},
        {**ENTRY, "shape": [1] * 20 + [2]},
        {**ENTRY, "data_offsets": [-8, 0]},
        {**ENTRY, "data_offsets": [8, 0]},
        {**ENTRY, "data_offsets": [4, 12]},
        {**ENTRY, "data_offsets": "0-8"},
        {"dtype": "F32"},
        [],
    ],
)
def test_a_malformed_entry_is_refused(tmp_path: Path, entry: Any) -> None:
    with pytest.raises(BadCheckpoint, match="x"):
        read_header(_file(tmp_path, {"x": entry}, bytes(8)))


def test_overlapping_tensors_are_refused(tmp_path: Path) -> None:
    header = {"x": ENTRY, "y": {**ENTRY, "data_offsets": [4, 12]}}
    with pytest.raises(BadCheckpoint, match="y overlaps"):
        read_header(_file(tmp_path, header, bytes(12)))


def test_a_header_longer_than_the_limit_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", MAX_HEADER + 1) + b"{}")
    with pytest.raises(BadCheckpoint):
        read_header(path)


def test_deeply_nested_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadCheckpoint, match="JSON"):
        read_header(_file(tmp_path, b"[" * 100_000))


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(FileMissing):
        read_header(tmp_path / "none.safetensors")
