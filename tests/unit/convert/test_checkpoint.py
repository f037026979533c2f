"""Folders that are not, not quite, or not entirely checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kylin_convert.arch import ARCHITECTURES, family_of
from kylin_convert.checkpoint import INDEX, Checkpoint
from kylin_gguf.errors import BadCheckpoint, FileMissing, NotACheckpoint, UnknownArchitecture
from tests import tiny_checkpoint as tiny


def _edit(path: Path, **changes: Any) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**content, **changes}), encoding="utf-8")


def test_shards_and_a_single_file_hold_the_same(tmp_path: Path) -> None:
    tiny.write(tmp_path / "one")
    tiny.write(tmp_path / "three", shards=3)
    one, three = Checkpoint.open(tmp_path / "one"), Checkpoint.open(tmp_path / "three")
    assert one.weight_files == ("model.safetensors",)
    assert len(three.weight_files) == 3
    assert one.tensors.keys() == three.tensors.keys()
    assert all(one.tensors[n].map().tobytes() == three.tensors[n].map().tobytes() for n in one.tensors)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(FileMissing):
        Checkpoint.open(tmp_path / "none")


def test_no_config(tmp_path: Path) -> None:
    with pytest.raises(NotACheckpoint, match="config"):
        Checkpoint.open(tmp_path)


def test_no_weights(tmp_path: Path) -> None:
    tiny.write(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(NotACheckpoint, match="safetensors"):
        Checkpoint.open(tmp_path)


def test_quantised_weights_are_refused(tmp_path: Path) -> None:
    tiny.write(tmp_path)
    _edit(tmp_path / "config.json", quantization_config={"quant_method": "gptq"})
    with pytest.raises(NotACheckpoint, match="gptq"):
        Checkpoint.open(tmp_path)


@pytest.mark.parametrize("architectures", [None, [], "LlamaForCausalLM", [7]])
def test_no_architecture(tmp_path: Path, architectures: object) -> None:
    tiny.write(tmp_path)
    _edit(tmp_path / "config.json", architectures=architectures)
    with pytest.raises(NotACheckpoint):
        Checkpoint.open(tmp_path)


def test_an_unknown_architecture_lists_the_known(tmp_path: Path) -> None:
    tiny.write(tmp_path)
    _edit(tmp_path / "config.json", architectures=["MumbaForCausalLM"])
    with pytest.raises(UnknownArchitecture) as caught:
        family_of(Checkpoint.open(tmp_path))
    assert caught.value.architecture == "MumbaForCausalLM"
    assert "MambaForCausalLM" in caught.value.known
    _edit(tmp_path / "config.json", architectures=["?"])
    with pytest.raises(UnknownArchitecture) as caught:
        family_of(Checkpoint.open(tmp_path))
    assert caught.value.known == ARCHITECTURES


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    tiny.write(tmp_path, shards=3)
    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(BadCheckpoint, match=r"model-00002-of-00003\.safetensors"):
        Checkpoint.open(tmp_path)


def test_a_tensor_the_index_promises_is_named_with_its_file(tmp_path: Path) -> None:
    tiny.write(tmp_path, shards=2)
    path = tmp_path / INDEX
    weight_map = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
    _edit(path, weight_map={**weight_map, "model.extra.weight": "model-00001-of-00002.safetensors"})
    with pytest.raises(BadCheckpoint, match=r"model-00001-of-00002.safetensors: model.extra.weight"):
        Checkpoint.open(tmp_path)


def test_a_tensor_the_index_does_not_know(tmp_path: Path) -> None:
    tiny.write(tmp_path, shards=2)
    path = tmp_path / INDEX
    weight_map = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
    del weight_map["model.norm.weight"]
    _edit(path, weight_map=weight_map)
    with pytest.raises(BadCheckpoint, match=r"does not list: model.norm.weight"):
        Checkpoint.open(tmp_path)


def test_a_tensor_in_two_files(tmp_path: Path) -> None:
    tiny.write(tmp_path)
    (tmp_path / "model2.safetensors").write_bytes((tmp_path / "model.safetensors").read_bytes())
    with pytest.raises(BadCheckpoint, match="another file"):
        Checkpoint.open(tmp_path)


@pytest.mark.parametrize("file", ["../secret.safetensors", "/etc/passwd", "x.bin", 7])
def test_the_index_cannot_lead_out_of_the_folder(tmp_path: Path, file: object) -> None:
    tiny.write(tmp_path, shards=2)
    _edit(tmp_path / INDEX, weight_map={"model.norm.weight": file})
    with pytest.raises(BadCheckpoint, match="puts tensor"):
        Checkpoint.open(tmp_path)


@pytest.mark.parametrize("name", ["config.json", INDEX])
def test_broken_json_is_named(tmp_path: Path, name: str) -> None:
    tiny.write(tmp_path, shards=2)
    (tmp_path / name).write_text("{", encoding="utf-8")
    with pytest.raises(BadCheckpoint, match=name):
        Checkpoint.open(tmp_path)
