"""Tokens and their vectors out of a model's file, which may be of any form."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type
from numpy.typing import NDArray

from kylin_gguf.errors import FileMissing, NotGguf, TruncatedGguf, UnsupportedModel
from kylin_gguf.gguf_info.token_table import TokenTable
from tests.tiny_model import write_model, write_vocabulary

RANDOM = np.random.default_rng(7)


def vectors(count: int, width: int = 64) -> dict[str, list[float]]:
    return {f"token{number}": RANDOM.standard_normal(width).tolist() for number in range(count)}


def read(table: TokenTable, numbers: list[int]) -> NDArray[np.float32]:
    slices, rows = zip(*table.vectors(numbers), strict=True)
    assert [number for some in slices for number in range(some.start, some.stop)] == list(range(len(numbers)))
    return np.concatenate(rows)


@pytest.mark.parametrize("count", [4, 5000])
def test_tokens_are_those_of_the_file(tmp_path: Path, count: int) -> None:
    """A short list is kept when the header is read, a long one is walked over."""
    made = vectors(count)
    table = TokenTable.find(write_vocabulary(tmp_path / "m.gguf", made))
    assert [token.decode() for token in table.tokens()] == list(made)
    assert table.width == 64


@pytest.mark.parametrize(
    ("kind", "off"), [(Type.F32, 0.0), (Type.F16, 2e-3), (Type.Q8_0, 3e-2), (Type.Q4_0, 0.7)]
)
def test_vectors_are_those_of_the_file(tmp_path: Path, kind: Type, off: float) -> None:
    made = vectors(5000)
    table = TokenTable.find(write_vocabulary(tmp_path / "m.gguf", made, kind))
    numbers = [0, 3, *range(10, 4800, 2), 4999]
    expected = np.array(list(made.values()), np.float32)[numbers]
    np.testing.assert_allclose(read(table, numbers), expected, atol=off)


def test_vectors_may_be_in_another_of_a_models_files(tmp_path: Path) -> None:
    made = vectors(40)
    write_vocabulary(tmp_path / "m.gguf", made, Type.F32, tensors_a_file=1)
    table = TokenTable.find(tmp_path / "m-00001-of-00002.gguf")
    assert table.holder.name == "m-00002-of-00002.gguf"
    assert [token.decode() for token in table.tokens()] == list(made)
    np.testing.assert_array_equal(read(table, [7])[0], np.array(made["token7"], np.float32))


def test_what_has_no_vector_for_each_token_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotGguf, match=r"\(64, 32\) for 33 tokens"):
        TokenTable.find(write_model(tmp_path / "few.gguf", vocabulary=33))
    writer = gguf.GGUFWriter(tmp_path / "none.gguf", "llama")
    writer.add_token_list(["a"])
    writer.add_tensor("output_norm.weight", np.ones(7, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(NotGguf, match=r"no tensor 'token_embd\.weight'"):
        TokenTable.find(tmp_path / "none.gguf")


def test_what_is_cut_off_meanwhile_is_an_error(tmp_path: Path) -> None:
    path = write_vocabulary(tmp_path / "m.gguf", vectors(4000))
    table = TokenTable.find(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(TruncatedGguf):
        read(table, [3999])
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(TruncatedGguf):
        list(table.tokens())
    path.unlink()
    with pytest.raises(FileMissing):
        read(table, [3999])
    with pytest.raises(FileMissing):
        list(table.tokens())


@pytest.mark.parametrize("kind", ["Q2_0", "Q8_1"])
def test_a_form_that_only_llama_cpp_knows_is_an_error(tmp_path: Path, kind: str) -> None:
    table = TokenTable.find(write_vocabulary(tmp_path / "m.gguf", vectors(4)))
    with pytest.raises(UnsupportedModel, match=kind):
        read(replace(table, tensor=replace(table.tensor, type_name=kind)), [0])
