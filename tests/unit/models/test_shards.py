"""Models in several files: all are found, and belong together."""

from __future__ import annotations

from pathlib import Path

import pytest

from kylin_convert.source import open_path
from kylin_gguf.errors import FileMissing, NotGguf
from kylin_gguf.gguf_info import shards
from tests.tiny_model import write_model


@pytest.fixture
def first(tmp_path: Path) -> Path:
    write_model(tmp_path / "tiny.gguf", tensors_a_file=1)
    return tmp_path / "tiny-00001-of-00002.gguf"


def _second(first: Path) -> Path:
    return first.with_name(first.name.replace("00001", "00002", 1))


@pytest.mark.parametrize("given", [0, 1])
def test_any_file_leads_to_the_whole_model(first: Path, tmp_path: Path, given: int) -> None:
    source = open_path((first, _second(first))[given])
    whole = shards.read(write_model(tmp_path / "whole.gguf"))
    assert source.files == (first, _second(first))
    assert source.size == first.stat().st_size + _second(first).stat().st_size
    assert source.model is not None
    assert source.model.path == first
    assert source.model.parameters == whole.parameters
    assert [(t.name, t.shape) for t in source.model.tensors] == [(t.name, t.shape) for t in whole.tensors]
    assert source.model.vocab_size == 4


def test_a_missing_file_is_named(first: Path) -> None:
    _second(first).unlink()
    with pytest.raises(FileMissing, match=r"tiny-00002-of-00002.gguf.*one of the 2 files"):
        open_path(first)


def test_files_that_do_not_belong_together_are_refused(first: Path, tmp_path: Path) -> None:
    _second(first).write_bytes(first.read_bytes())
    with pytest.raises(NotGguf, match="does not call it file 2 of 2"):
        open_path(first)
    alone = tmp_path / "alone.gguf"
    alone.write_bytes(first.read_bytes())
    with pytest.raises(NotGguf, match="does not call it file 1 of 1"):
        open_path(alone)


def test_a_tensor_is_in_one_file(first: Path) -> None:
    _second(first).write_bytes(_renumbered(first.read_bytes()))
    with pytest.raises(NotGguf, match=r"tensor token_embd\.weight is in another file"):
        open_path(first)


def _renumbered(content: bytes) -> bytes:
    """Make the second file of the first: the number, of 16 bits, follows its key and type."""
    key = b"split.no" + (2).to_bytes(4, "little")
    assert content.count(key) == 1
    at = content.index(key) + len(key)
    return content[:at] + (1).to_bytes(2, "little") + content[at + 2 :]
