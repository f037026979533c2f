"""Checkpoints whose files were changed by somebody: an error of ours, or a conversion, and nothing else."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kylin_convert import checkpoint, lora, safetensors
from kylin_convert.adapter import Adapter
from kylin_convert.arch import family_of
from kylin_convert.checkpoint import INDEX, Checkpoint
from kylin_convert.source import open_path
from kylin_gguf.errors import BadCheckpoint, KylinError, NotACheckpoint
from kylin_gguf.records import no_progress
from tests import tiny_checkpoint as tiny
from tests.tiny_adapters import AdapterCase
from tests.tiny_families import CASES

FUZZ = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just(-1),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=4,
)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path to everything inside ``value``; of long lists only the ends."""
    keys: list[Any] = []
    if isinstance(value, dict):
        keys = [*list(value)[:12], *list(value)[-3:]]
    elif isinstance(value, list):
        keys = [0, len(value) - 1] if value else []
    result = [(*path, key) for key in keys]
    return result + [place for key in keys for place in _places(value[key], (*path, key))]


def _mutated(data: st.DataObject, content: Any) -> Any:
    """Return ``content`` with something in it replaced or taken away."""
    result = json.loads(json.dumps(content))
    *path, last = data.draw(st.sampled_from(_places(content)))
    inner = result
    for key in path:
        inner = inner[key]
    if data.draw(st.booleans()):
        del inner[last]
    else:
        inner[last] = data.draw(VALUES)
    return result


def _attempt(folder: Path) -> None:
    """Do everything that a conversion does before it writes the weights."""
    family = family_of(Checkpoint.open(folder))
    for tensor in family.tensors():
        assert all(size >= 0 for size in tensor.shape)
    writer = gguf.GGUFWriter(None, family.name)
    family.write_parameters(writer, gguf.LlamaFileType.MOSTLY_F16)
    family.vocabulary().write(writer)


@pytest.mark.parametrize("name", sorted(CASES))
def test_any_configuration(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    CASES[name].write(folder)
    whole = json.loads((folder / "config.json").read_text("utf-8"))

    @FUZZ
    @given(st.data())
    def check(data: st.DataObject) -> None:
        (folder / "config.json").write_text(json.dumps(_mutated(data, whole)), "utf-8")
        _survives(lambda: _attempt(folder))

    check()


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("llama", "tokenizer_config.json"),
        *(
            (name, file)
            for name in ("qwen2", "bert", "xlm-roberta-json")
            for file in ("tokenizer.json", "tokenizer_config.json")
        ),
    ],
)
def test_any_tokenizer(tmp_path: Path, name: str, file: str) -> None:
    folder = tmp_path / name
    CASES[name].write(folder)
    whole = json.loads((folder / file).read_text("utf-8"))

    @FUZZ
    @given(st.data())
    def check(data: st.DataObject) -> None:
        (folder / file).write_text(json.dumps(_mutated(data, whole)), "utf-8")
        _survives(lambda: _attempt(folder))

    check()


@pytest.mark.parametrize(
    ("place", "key"),
    [(("post_processor", "special_tokens"), "[SEP]"), (("model", "vocab"), "[UNK]"), (("model",), "vocab")],
)
def test_what_the_tokenizers_library_cannot_use(tmp_path: Path, place: tuple[str, ...], key: str) -> None:
    # The first is a panic of the library, which is no Exception, the others are bare ones.
    folder = tmp_path / "bert"
    CASES["bert"].write(folder)
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text("utf-8"))
    inner = content
    for name in place:
        inner = inner[name]
    del inner[key]
    path.write_text(json.dumps(content), "utf-8")
    with pytest.raises(BadCheckpoint, match="tokenizers library cannot use it"):
        _attempt(folder)


@pytest.mark.parametrize("file", ["modules.json", "1_Pooling/config.json"])
def test_any_pooling(tmp_path: Path, file: str) -> None:
    folder = tmp_path / "bert"
    CASES["bert"].write(folder)
    whole = json.loads((folder / file).read_text("utf-8"))

    @FUZZ
    @given(st.data())
    def check(data: st.DataObject) -> None:
        (folder / file).write_text(json.dumps(_mutated(data, whole)), "utf-8")
        _survives(lambda: _attempt(folder))

    check()


def _adapt(folder: Path) -> None:
    """Do everything that becomes of an adapter: a file of its own, and a part of its base."""
    base = Checkpoint.open(folder.with_name("base"))
    lora.base_name(folder)
    Adapter.open(folder, base).write(folder.with_name("out.gguf"), "F16", no_progress)
    for tensor in lora.merge(base, folder).tensors.values():
        tensor.map()


def test_any_adapter(tmp_path: Path) -> None:
    CASES["llama"].write(tmp_path / "base")
    folder = tmp_path / "adapter"
    patterns = {"alpha_pattern": {"q_proj": 2}, "use_rslora": True, "alora_invocation_tokens": []}
    AdapterCase("llama", {"q_proj": 4}, config=patterns).write(folder)
    config, weights = folder / lora.CONFIG, folder / lora.WEIGHTS
    whole, content = json.loads(config.read_text("utf-8")), weights.read_bytes()

    @FUZZ
    @given(st.data())
    def check(data: st.DataObject) -> None:
        config.write_text(json.dumps(_mutated(data, whole)), "utf-8")
        weights.write_bytes(_scribbled(data, content))
        _survives(lambda: _adapt(folder))
        weights.write_bytes(content)
        _survives(lambda: _adapt(folder))

    check()


@pytest.mark.parametrize("key", ["lora_alpha", "alpha_pattern"])
@pytest.mark.parametrize("value", [10**400, 1e300, -1, 0, "16", float("inf"), True])
def test_an_alpha_that_is_none(tmp_path: Path, key: str, value: Any) -> None:
    CASES["llama"].write(tmp_path / "base")
    stated = {"q_proj": value} if key == "alpha_pattern" else value
    AdapterCase("llama", {"q_proj": 4}, config={key: stated}).write(tmp_path / "adapter")
    with pytest.raises(BadCheckpoint, match="not a positive number"):
        _adapt(tmp_path / "adapter")


@pytest.mark.parametrize("name", [INDEX, "model-00001-of-00002.safetensors", "tokenizer.model"])
def test_any_bytes(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "hf"
    tiny.write(folder, shards=2)
    whole = (folder / name).read_bytes()

    @FUZZ
    @given(st.data())
    def check(data: st.DataObject) -> None:
        (folder / name).write_bytes(_scribbled(data, whole))
        _survives(lambda: _attempt(folder))

    check()


def _scribbled(data: st.DataObject, whole: bytes) -> bytes:
    """Return ``whole`` with some bytes changed, and perhaps without its end."""
    content = bytearray(whole)
    for _ in range(data.draw(st.integers(0, 4))):
        # The headers are in front, and it is they that are parsed.
        content[data.draw(st.integers(0, min(len(content), 4096) - 1))] = data.draw(st.integers(0, 255))
    return bytes(content[: data.draw(st.integers(0, len(content)))])


def _survives(attempt: Callable[[], None]) -> None:
    try:
        attempt()
    except KylinError as error:
        assert "\n" not in str(error)


def test_a_file_of_a_billion_tensors_is_not_taken_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safetensors, "MAX_TENSORS", 20)
    tiny.write(tmp_path)
    with pytest.raises(BadCheckpoint, match="more than 20"):
        open_path(tmp_path)


def test_a_configuration_of_a_billion_tensors_is_given_up(tmp_path: Path) -> None:
    CASES["qwen3-moe"].write(tmp_path / "hf")
    path = tmp_path / "hf" / "config.json"
    config = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**config, "num_hidden_layers": 1024, "num_experts": 4096}), "utf-8")
    with pytest.raises(BadCheckpoint, match="tensors are missing"):
        open_path(tmp_path / "hf")


@pytest.mark.parametrize("name", ["config.json", INDEX])
def test_a_file_of_gigabytes_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    tiny.write(tmp_path, shards=2)
    monkeypatch.setattr(checkpoint, "_MAX_JSON", (tmp_path / name).stat().st_size - 1)
    with pytest.raises(BadCheckpoint):
        open_path(tmp_path)


def test_weights_that_are_integers_are_refused(tmp_path: Path) -> None:
    config = tiny.write(tmp_path)
    tensors = tiny.random_tensors(config)
    _, shape, data = tensors["model.norm.weight"]
    tensors["model.norm.weight"] = ("I16", shape, data)
    (tmp_path / "model.safetensors").write_bytes(tiny.safetensors(tensors))
    with pytest.raises(BadCheckpoint, match="holds I16"):
        open_path(tmp_path)


@pytest.mark.parametrize("module", ["../other", "/etc"])
def test_pooling_cannot_lead_out_of_the_folder(tmp_path: Path, module: str) -> None:
    CASES["bert"].write(tmp_path / "hf")
    entry = [{"type": "models.Pooling", "path": module}]
    (tmp_path / "hf" / "modules.json").write_text(json.dumps(entry), "utf-8")
    with pytest.raises(BadCheckpoint, match="not below its folder"):
        open_path(tmp_path / "hf")


def test_a_pipe_is_no_checkpoint(tmp_path: Path) -> None:
    tiny.write(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    os.mkfifo(tmp_path / "model.safetensors")
    with pytest.raises(NotACheckpoint):
        open_path(tmp_path)
