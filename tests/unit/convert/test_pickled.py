"""pytorch_model.bin: tensors are found, and nothing else in it is listened to."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kylin_convert.checkpoint import Checkpoint
from kylin_convert.pickled import read_tensors
from kylin_gguf.errors import BadCheckpoint, FileMissing, KylinError
from tests import tiny_checkpoint as tiny
from tests import tiny_pickled as torch

VALUES = np.arange(12, dtype="<f4")
SHAPE = (3, 4)


def _one(path: Path, **changes: Any) -> Path:
    place = {"key": "0", "dtype": "F32", "shape": SHAPE, "strides": (4, 1), "count": 12, **changes}
    torch.archive(path, torch.program([("x", torch.View(**place).built())]), {"0": VALUES.tobytes()})
    return path


def test_the_same_checkpoint_in_both_forms(tmp_path: Path) -> None:
    config = tiny.write(tmp_path / "new")
    old = tmp_path / "old"
    old.mkdir()
    for name in ("config.json", "tokenizer.model", "tokenizer_config.json"):
        (old / name).write_bytes((tmp_path / "new" / name).read_bytes())
    torch.write(old / "pytorch_model.bin", tiny.random_tensors(config))
    first, second = Checkpoint.open(tmp_path / "new").tensors, Checkpoint.open(old).tensors
    assert first.keys() == second.keys()
    assert all(first[name].map().tobytes() == second[name].map().tobytes() for name in first)


def test_shards_with_an_index(tmp_path: Path) -> None:
    tensors = list(tiny.random_tensors(tiny.write(tmp_path)).items())
    (tmp_path / "model.safetensors").unlink()
    weight_map = {}
    for number in (1, 2):
        part, name = dict(tensors[number - 1 :: 2]), f"pytorch_model-0000{number}-of-00002.bin"
        torch.write(tmp_path / name, part)
        weight_map.update(dict.fromkeys(part, name))
    index = tmp_path / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}), "utf-8")
    assert Checkpoint.open(tmp_path).tensors.keys() == dict(tensors).keys()
    index.write_text(json.dumps({"weight_map": {**weight_map, "x": "../x.bin"}}), "utf-8")
    with pytest.raises(BadCheckpoint, match="puts tensor x"):
        Checkpoint.open(tmp_path)


def test_safetensors_are_preferred(tmp_path: Path) -> None:
    tiny.write(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"not even an archive")
    assert Checkpoint.open(tmp_path).weight_files == ("model.safetensors",)


def test_a_view_of_a_part_of_a_storage(tmp_path: Path) -> None:
    path = _one(tmp_path / "m.bin", shape=(2, 2), strides=(2, 1), start=5)
    np.testing.assert_array_equal(read_tensors(path)["x"].map(), VALUES[5:9].reshape(2, 2))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"strides": (1, 3)}, "rows do not follow"),
        ({"start": 1}, "outside its storage"),
        ({"start": -1}, "malformed"),
        ({"shape": (3, -4)}, "malformed"),
        ({"count": 13}, "too short"),
        ({"count": -1}, "no storage"),
        ({"key": "../0"}, "storage ../0 is missing"),
        ({"shape": (3, 4, 1)}, "damaged"),
    ],
)
def test_tensors_that_are_not_where_they_should_be(
    tmp_path: Path, changes: dict[str, Any], match: str
) -> None:
    with pytest.raises(BadCheckpoint, match=match):
        read_tensors(_one(tmp_path / "m.bin", **changes))


class Evil:
    """What a malicious pickle is made with."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def test_code_is_not_run(tmp_path: Path) -> None:
    path, trace = tmp_path / "m.bin", tmp_path / "trace"
    torch.archive(path, pickle.dumps({"x": Evil(trace)}, 2), {})
    with pytest.raises(BadCheckpoint, match=r"wants posix\.mkdir"):
        read_tensors(path)
    assert not trace.exists()


@pytest.mark.parametrize(
    "wanted", [("builtins", "eval"), ("torch", "load"), ("torch._utils", "x"), ("os", "system")]
)
def test_nothing_else_can_be_named(tmp_path: Path, wanted: tuple[str, str]) -> None:
    torch.archive(tmp_path / "m.bin", torch.program([("x", torch.name(*wanted))]), {})
    with pytest.raises(BadCheckpoint, match="is not run"):
        read_tensors(tmp_path / "m.bin")


@pytest.mark.parametrize(
    "content",
    [torch.value([1])[:-1] + b"e.", b"\x80\x02" + torch.value({"x": 1}) + b".", b".", b"", b"\x80\x02N."],
)
def test_other_content_is_refused(tmp_path: Path, content: bytes) -> None:
    torch.archive(tmp_path / "m.bin", content, {})
    with pytest.raises(BadCheckpoint):
        read_tensors(tmp_path / "m.bin")


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "old.bin").write_bytes(pickle.dumps(0x1950A86A20F9469CFC6C, 2))  # torch before 1.6
    with pytest.raises(BadCheckpoint, match=r"torch 1\.6"):
        read_tensors(tmp_path / "old.bin")
    with pytest.raises(FileMissing):
        read_tensors(tmp_path / "none.bin")
    with zipfile.ZipFile(tmp_path / "zip.bin", "w") as file:
        file.writestr("picture.png", b"")
    with pytest.raises(BadCheckpoint, match="no list of tensors"):
        read_tensors(tmp_path / "zip.bin")


def test_compressed_storages_are_refused(tmp_path: Path) -> None:
    items = [("x", torch.View("0", "F32", SHAPE, (4, 1), count=12).built())]
    storages = {"0": VALUES.tobytes()}
    torch.archive(tmp_path / "m.bin", torch.program(items), storages, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(BadCheckpoint, match="compressed"):
        read_tensors(tmp_path / "m.bin")


def test_a_table_as_large_as_the_file_says_is_not_made(tmp_path: Path) -> None:
    # LONG_BINPUT 2**32 - 1: the unpickler in C would allocate 64 GB
    torch.archive(tmp_path / "m.bin", b"\x80\x02}r\xff\xff\xff\xff.", {})
    assert read_tensors(tmp_path / "m.bin") == {}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damaged_files(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(_one(tmp_path / "m.bin").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "m.bin").write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        tensors = read_tensors(tmp_path / "m.bin")
    except KylinError:
        return
    for found in tensors.values():
        found.map()
