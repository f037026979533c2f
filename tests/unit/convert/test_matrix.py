"""An importance matrix is held against the model before anything is weighed with it."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest

from kylin_convert import matrix
from kylin_gguf import gguf_info
from kylin_gguf.errors import BadMatrix, TruncatedGguf
from kylin_gguf.gguf_info import GgufInfo
from tests.tiny_model import write_model

DENSE = {"blk.0.attn_q.weight": (32,), "blk.1.attn_q.weight": (32,)}
EXPERTS = {"blk.0.ffn_up_exps.weight": (32, 4)}


def _model(path: Path) -> GgufInfo:
    writer = gguf.GGUFWriter(path, "llama")
    for name in DENSE:
        writer.add_tensor(name, np.ones((8, 32), np.float32))
    for name in EXPERTS:
        writer.add_tensor(name, np.ones((4, 8, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return gguf_info.read(path)


@pytest.fixture
def model(tmp_path: Path) -> GgufInfo:
    return _model(tmp_path / "model.gguf")


def _write(path: Path, entries: dict[str, tuple[object, object]]) -> Path:
    writer = gguf.GGUFWriter(path, "")
    writer.kv_data[0].clear()
    writer.add_type("imatrix")
    writer.add_uint32("imatrix.chunk_count", 3)
    writer.add_uint32("imatrix.chunk_size", 512)
    writer.add_array("imatrix.datasets", ["text.txt"])
    for name, (sums, counts) in entries.items():
        writer.add_tensor(f"{name}.in_sum2", np.asarray(sums, np.float32))
        writer.add_tensor(f"{name}.counts", np.asarray(counts, np.float32).reshape(-1, 1))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _dense() -> dict[str, tuple[object, object]]:
    return {name: (np.ones((1, 32)), [512.0]) for name in DENSE}


def _with_experts(counts: list[float]) -> dict[str, tuple[object, object]]:
    sums = np.outer(counts, np.arange(1, 33))
    return {**_dense(), "blk.0.ffn_up_exps.weight": (sums, counts)}


def test_a_matrix_that_fits(tmp_path: Path, model: GgufInfo) -> None:
    found = matrix.check(_write(tmp_path / "m.gguf", _dense()), model)
    assert (found.chunks, found.entries, found.coverage) == (3, 2, None)


def test_experts_are_counted(tmp_path: Path, model: GgufInfo) -> None:
    found = matrix.check(_write(tmp_path / "m.gguf", _with_experts([9, 0, 4, 3])), model)
    assert found.coverage == matrix.Coverage(experts=4, unseen=1, fewest=3)
    assert found.coverage.to_json() == {"experts": 4, "unseen": 1, "fewest": 3}


def test_an_expert_that_met_nothing_gets_the_mean_of_the_others(tmp_path: Path, model: GgufInfo) -> None:
    source = _write(tmp_path / "m.gguf", _with_experts([9, 0, 4, 3]))
    matrix.fill_unseen(source, tmp_path / "filled.gguf")
    filled = matrix.check(tmp_path / "filled.gguf", model)
    # The copy still says that one of them met nothing, and is its own copy.
    assert (filled.chunks, filled.coverage) == (3, matrix.Coverage(4, 1, 3))
    matrix.fill_unseen(tmp_path / "filled.gguf", tmp_path / "again.gguf")
    assert (tmp_path / "again.gguf").read_bytes() == (tmp_path / "filled.gguf").read_bytes()
    before, after = (matrix._entries(path) for path in (source, tmp_path / "filled.gguf"))
    sums, counts = after["blk.0.ffn_up_exps.weight"]
    # Each token added 1, 2, 3, ... to its expert's sums.
    assert sums[1] / counts[1] == pytest.approx(np.arange(1, 33))
    assert np.array_equal(sums[[0, 2, 3]], before["blk.0.ffn_up_exps.weight"][0][[0, 2, 3]])
    fields = gguf.GGUFReader(tmp_path / "filled.gguf").fields
    assert "general.architecture" not in fields
    assert fields["imatrix.datasets"].contents() == ["text.txt"]


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({}, "empty"),
        ({**_dense(), "blk.7.attn_q.weight": (np.ones((1, 32)), [1.0])}, "no tensor blk.7.attn_q"),
        ({"blk.0.attn_q.weight": (np.ones((1, 32)), [1.0])}, "nothing of layer 1"),
        ({**_dense(), "blk.0.attn_q.weight": (np.ones((1, 64)), [1.0])}, "64 values .* takes 32"),
        ({**_dense(), "blk.0.attn_q.weight": (np.ones((2, 32)), [1.0, 1.0])}, "64 values .* takes 32"),
        ({**_dense(), **{name: (np.ones((2, 32)), [1.0, 1.0]) for name in EXPERTS}}, "takes 4 x 32"),
        ({**_dense(), "blk.0.attn_q.weight": (np.full((1, 32), np.nan), [1.0])}, "not finite"),
        ({**_dense(), "blk.0.attn_q.weight": (np.full((1, 32), -1.0), [1.0])}, "no sums of squares"),
        ({**_dense(), "blk.0.attn_q.weight": (np.ones((1, 32)), [0.0])}, "no sums of squares"),
        ({**_dense(), "blk.0.attn_q.weight": (np.ones((1, 32)), [1.0, 1.0, 1.0])}, "malformed"),
    ],
)
def test_a_matrix_that_does_not_fit(
    tmp_path: Path, model: GgufInfo, entries: dict[str, tuple[object, object]], said: str
) -> None:
    with pytest.raises(BadMatrix, match=said):
        matrix.check(_write(tmp_path / "m.gguf", entries), model)


def test_files_that_are_none(tmp_path: Path, model: GgufInfo) -> None:
    with pytest.raises(BadMatrix, match="older one"):
        legacy = tmp_path / "old.dat"
        legacy.write_bytes(b"\x01\x00\x00\x00" + bytes(64))
        matrix.check(legacy, model)
    with pytest.raises(BadMatrix, match="but a model"):
        matrix.check(write_model(tmp_path / "other.gguf"), model)
    whole = _write(tmp_path / "m.gguf", _dense()).read_bytes()
    (tmp_path / "cut.gguf").write_bytes(whole[:-40])
    with pytest.raises(TruncatedGguf):
        matrix.check(tmp_path / "cut.gguf", model)
