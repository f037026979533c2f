"""LoRA adapters, merged while they are read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kylin_convert import adapter_cli, lora
from kylin_convert.arch import family_of
from kylin_convert.checkpoint import Checkpoint
from kylin_convert.safetensors import widen
from kylin_convert.source import open_source
from kylin_gguf import config, gguf_info
from kylin_gguf.errors import BadCheckpoint, InvalidValue, NotACheckpoint
from kylin_gguf.records import no_progress
from tests import tiny_checkpoint as tiny
from tests.tiny_adapters import AdapterCase
from tests.tiny_families import CASES

RANK = 4
QUERY, DOWN = "model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj"
PLAIN = {"peft_type": "LORA", "r": RANK, "lora_alpha": 16, "bias": "none", "use_dora": False}


def _halves(module: str, rows: int, columns: int, rank: int = RANK) -> dict[str, np.ndarray[Any, Any]]:
    generator = np.random.default_rng(len(module))
    name = f"base_model.model.{module}"
    return {
        f"{name}.lora_A.weight": generator.normal(size=(rank, columns)).astype("<f4"),
        f"{name}.lora_B.weight": generator.normal(size=(rows, rank)).astype("<f4"),
    }


def _write(
    folder: Path, base: Path | str, halves: dict[str, Any] | None = None, **changes: Any
) -> dict[str, Any]:
    folder.mkdir()
    stated = {**PLAIN, "base_model_name_or_path": str(base), **changes}
    (folder / lora.CONFIG).write_text(json.dumps(stated), "utf-8")
    halves = halves or {**_halves(QUERY, 256, 256), **_halves(DOWN, 256, 512)}
    stored = {name: ("F32", half.shape, half.tobytes()) for name, half in halves.items()}
    (folder / lora.WEIGHTS).write_bytes(tiny.safetensors(stored))
    return halves


@pytest.fixture
def base(tmp_path: Path) -> Path:
    tiny.write(tmp_path / "base")
    return tmp_path / "base"


def _weights(checkpoint: Checkpoint, name: str) -> Any:
    return widen(checkpoint.tensors[f"{name}.weight"].map()).astype(np.float64)


@pytest.mark.parametrize(
    ("changes", "scale"),
    [
        ({}, 16 / RANK),
        ({"use_rslora": True}, 16 / RANK**0.5),
        ({"alpha_pattern": {"q_proj": 2}}, 2 / RANK),
        ({"alpha_pattern": {"v_proj": 2}}, 16 / RANK),
    ],
)
def test_the_product_is_added(base: Path, tmp_path: Path, changes: dict[str, Any], scale: float) -> None:
    halves = _write(tmp_path / "adapter", base, **changes)
    before = Checkpoint.open(base)
    after = lora.merge(before, tmp_path / "adapter")
    name = f"base_model.model.{QUERY}"
    added = scale * halves[f"{name}.lora_B.weight"] @ halves[f"{name}.lora_A.weight"]
    np.testing.assert_allclose(_weights(after, QUERY) - _weights(before, QUERY), added, atol=1e-4)
    untouched = "model.layers.0.self_attn.k_proj"
    np.testing.assert_array_equal(_weights(after, untouched), _weights(before, untouched))


def test_an_adapter_is_a_source(base: Path, tmp_path: Path) -> None:
    _write(tmp_path / "adapter", base)
    source = open_source(str(tmp_path / "adapter"), config.load(), no_progress)
    assert source.kind == "checkpoint"
    assert source.name.endswith("adapter")
    hashed = source.hashes(no_progress)
    assert {"model.safetensors", f"adapter/{lora.CONFIG}", f"adapter/{lora.WEIGHTS}"} <= hashed.keys()
    plain = family_of(Checkpoint.open(base))
    assert source.family is not None and plain is not None
    ours, theirs = ({t.name: t for t in family.tensors()} for family in (source.family, plain))
    assert ours.keys() == theirs.keys()
    changed = [n for n in ours if not np.array_equal(_value(ours[n]), _value(theirs[n]))]
    assert sorted(changed) == ["blk.0.attn_q.weight", "blk.1.ffn_down.weight"]


def _value(tensor: Any) -> Any:
    return widen(tensor.pieces[0]())


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"bias": "all"}, "bias"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"lora_alpha": "x"}, "adapter_config.json: lora_alpha"),
        ({"alpha_pattern": 7}, "alpha_pattern"),
        ({"alpha_pattern": {r".*layers\.[01]\..*": 2}}, "regular expression"),
        ({"alora_invocation_tokens": [1, 2]}, "alora_invocation_tokens"),
        ({"layer_replication": [[0, 2], [1, 2]]}, "layer_replication"),
    ],
)
def test_what_more_than_a_product_would_do_is_refused(
    base: Path, tmp_path: Path, changes: dict[str, Any], match: str
) -> None:
    _write(tmp_path / "adapter", base, **changes)
    with pytest.raises(BadCheckpoint, match=match):
        lora.merge(Checkpoint.open(base), tmp_path / "adapter")


@pytest.mark.parametrize(
    ("halves", "match"),
    [
        (_halves("model.layers.9.mlp.up_proj", 512, 256), "does not have"),
        (_halves(QUERY, 128, 256), "do not fit"),
        ({n: h for n, h in _halves(QUERY, 256, 256).items() if "lora_A" in n}, "one of two"),
        ({"base_model.model.lm_head.weight": np.zeros((2, 2), "<f4")}, "no pair"),
        (
            {"base_model.model.model.embed_tokens.lora_embedding_A": np.zeros((2, 2), "<f4")},
            "adapts embeddings",
        ),
        ({n: np.zeros((), "<f4") for n in _halves(QUERY, 256, 256)}, "do not fit"),
        (_halves(QUERY, 256, 256, rank=0), "do not fit"),
        (
            {
                **{n: h for n, h in _halves(QUERY, 256, 256).items() if "lora_A" in n},
                **{n: h for n, h in _halves(QUERY, 256, 256, rank=8).items() if "lora_B" in n},
            },
            "different ranks",
        ),
    ],
)
def test_an_adapter_of_another_model(base: Path, tmp_path: Path, halves: dict[str, Any], match: str) -> None:
    _write(tmp_path / "adapter", base, halves)
    with pytest.raises(BadCheckpoint, match=match):
        lora.merge(Checkpoint.open(base), tmp_path / "adapter")


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"peft_type": "PROMPT_TUNING"}, "PROMPT_TUNING"),
        ({"base_model_name_or_path": None}, "no base model"),
        ({"base_model_name_or_path": "/home/somebody/model"}, "neither a folder nor a repository"),
    ],
)
def test_an_adapter_without_its_base(tmp_path: Path, changes: dict[str, Any], match: str) -> None:
    _write(tmp_path / "adapter", "", **changes)
    with pytest.raises(NotACheckpoint, match=match):
        open_source(str(tmp_path / "adapter"), config.load(), no_progress)


def test_an_adapter_becomes_a_file(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _write(tmp_path / "adapter", "/home/somebody/model")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NotACheckpoint, match="neither a folder nor a repository"):
        adapter_cli.run("adapter")
    adapter_cli.run("adapter", base="base", form="f16")
    assert "2 matrices adapted" in capsys.readouterr().out
    made = gguf_info.read(tmp_path / "adapter-LoRA-F16.gguf")
    assert (made.kind, made.architecture) == ("adapter", "llama")
    assert {tensor.name: (tensor.type_name, tensor.shape) for tensor in made.tensors} == {
        "blk.0.attn_q.weight.lora_a": ("F16", (256, RANK)),
        "blk.0.attn_q.weight.lora_b": ("F16", (RANK, 256)),
        "blk.1.ffn_down.weight.lora_a": ("F16", (512, RANK)),
        "blk.1.ffn_down.weight.lora_b": ("F16", (RANK, 256)),
    }
    with pytest.raises(InvalidValue, match="--force"):
        adapter_cli.run("adapter", base="base", form="f16")
    with pytest.raises(InvalidValue, match="--type"):
        adapter_cli.run("adapter", base="base", form="Q4_K_M")
    with pytest.raises(NotACheckpoint, match="adapter_config"):
        adapter_cli.run("base")


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"alora_invocation_tokens": [-1]}, "alora_invocation_tokens"),
        ({"invocation_string": "now"}, "invocation_string"),
    ],
)
def test_an_adapter_that_its_file_could_not_say_is_refused(
    base: Path, tmp_path: Path, changes: dict[str, Any], match: str
) -> None:
    _write(tmp_path / "adapter", base, **changes)
    with pytest.raises(BadCheckpoint, match=match):
        adapter_cli.run(str(tmp_path / "adapter"), output=tmp_path / "out.gguf")
    assert not list(tmp_path.glob("out*"))


def test_experts_are_stacked_in_the_base(tmp_path: Path) -> None:
    CASES["qwen3-moe"].write(tmp_path / "base")
    AdapterCase("qwen3-moe", {"experts.1.up_proj": 4}).write(tmp_path / "adapter", tmp_path / "base")
    with pytest.raises(BadCheckpoint, match=r"another form; merge it"):
        adapter_cli.run(str(tmp_path / "adapter"), output=tmp_path / "out.gguf")
