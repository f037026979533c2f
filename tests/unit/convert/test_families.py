"""From a checkpoint's tensors and configuration to the GGUF's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from kylin_convert.arch import family_of
from kylin_convert.arch.base import Family, OutputTensor
from kylin_convert.arch.decoder import Decoder
from kylin_convert.checkpoint import Checkpoint
from kylin_convert.safetensors import widen
from kylin_convert.writer import write_gguf
from kylin_gguf import gguf_info
from kylin_gguf.errors import BadCheckpoint
from kylin_gguf.records import Progress, no_progress
from tests import tiny_checkpoint as tiny


def _family(folder: Path, config: dict[str, Any] = tiny.LLAMA, **how: Any) -> Decoder:
    tiny.write(folder, config, **how)
    family = family_of(Checkpoint.open(folder))
    assert isinstance(family, Decoder)
    return family


def _values(family: Family) -> dict[str, Any]:
    return {tensor.name: _whole(tensor) for tensor in family.tensors()}


def _whole(tensor: OutputTensor) -> Any:
    pieces = [widen(piece()) for piece in tensor.pieces]
    return np.concatenate(pieces).reshape(tensor.shape)


@pytest.mark.parametrize("config", [tiny.LLAMA, tiny.QWEN2, tiny.QWEN3], ids=lambda c: str(c["model_type"]))
def test_every_tensor_is_written_once(tmp_path: Path, config: dict[str, Any]) -> None:
    family = _family(tmp_path, config)
    names = [tensor.name for tensor in family.tensors()]
    assert len(names) == len(set(names)) == len(family.checkpoint.tensors)
    assert {"token_embd.weight", "output_norm.weight", "output.weight", "blk.1.ffn_down.weight"} <= set(names)
    assert ("blk.0.attn_q.bias" in names) == (config["model_type"] == "qwen2")
    assert ("blk.0.attn_q_norm.weight" in names) == (config["model_type"] == "qwen3")


def _rotate_halves(rows: Any, angles: Any) -> Any:
    # transformers: element i of a head turns with element i + d/2
    first, second = np.split(rows, 2)
    return np.concatenate([first * np.cos(angles) - second * np.sin(angles),
                           second * np.cos(angles) + first * np.sin(angles)])  # fmt: skip


def _rotate_neighbours(rows: Any, angles: Any) -> Any:
    # llama.cpp's LLAMA_ROPE_TYPE_NORM: element 2i turns with element 2i + 1
    result = np.empty_like(rows)
    result[0::2] = rows[0::2] * np.cos(angles) - rows[1::2] * np.sin(angles)
    result[1::2] = rows[1::2] * np.cos(angles) + rows[0::2] * np.sin(angles)
    return result


def test_llama_queries_and_keys_mean_the_same_to_llama_cpp(tmp_path: Path) -> None:
    family = _family(tmp_path, dtype="F32")
    ours = _values(family)
    theirs = {name: widen(tensor.map()) for name, tensor in family.checkpoint.tensors.items()}
    size, heads = family.hp.head_dim, family.hp.heads
    generator = np.random.default_rng(1)
    scores = []
    for weights, rotate, key in (
        (
            theirs["model.layers.0.self_attn.q_proj.weight"],
            _rotate_halves,
            "model.layers.0.self_attn.k_proj.weight",
        ),
        (ours["blk.0.attn_q.weight"], _rotate_neighbours, "blk.0.attn_k.weight"),
    ):
        generator = np.random.default_rng(1)
        hidden = generator.normal(size=(2, family.hp.hidden_size))
        angles = generator.normal(size=(2, size // 2))
        source = theirs if key in theirs else ours
        query, keys = weights @ hidden[0], source[key] @ hidden[1]
        group = heads // family.hp.kv_heads
        scores.append(
            [
                rotate(query[h * size : (h + 1) * size], angles[0])
                @ rotate(keys[h // group * size : (h // group + 1) * size], angles[1])
                for h in range(heads)
            ]
        )
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-6)
    assert not np.array_equal(ours["blk.0.attn_q.weight"], theirs["model.layers.0.self_attn.q_proj.weight"])


def test_qwen_rows_stay_as_they_are(tmp_path: Path) -> None:
    family = _family(tmp_path, tiny.QWEN2)
    stored = widen(family.checkpoint.tensors["model.layers.0.self_attn.k_proj.weight"].map())
    np.testing.assert_array_equal(_values(family)["blk.0.attn_k.weight"], stored)


def test_tied_embeddings_need_no_output_matrix(tmp_path: Path) -> None:
    tied = _family(tmp_path, {**tiny.LLAMA, "tie_word_embeddings": True})
    assert "output.weight" not in _values(tied)


def test_a_tied_model_may_repeat_its_embedding_but_not_contradict_it(tmp_path: Path) -> None:
    config = tiny.write(tmp_path)
    (tmp_path / "config.json").write_text(
        json.dumps({**config, "tie_word_embeddings": True}), encoding="utf-8"
    )
    with pytest.raises(BadCheckpoint, match=r"lm_head\.weight is another"):
        family_of(Checkpoint.open(tmp_path)).tensors()
    tensors = tiny.random_tensors(config)
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    (tmp_path / "model.safetensors").write_bytes(tiny.safetensors(tensors))
    names = [tensor.name for tensor in family_of(Checkpoint.open(tmp_path)).tensors()]
    assert "output.weight" in names


def test_an_untied_model_without_its_output_matrix_is_refused(tmp_path: Path) -> None:
    config = tiny.write(tmp_path, {**tiny.LLAMA, "tie_word_embeddings": True})
    (tmp_path / "config.json").write_text(
        json.dumps({**config, "tie_word_embeddings": False}), encoding="utf-8"
    )
    with pytest.raises(BadCheckpoint, match=r"missing: lm_head.weight"):
        family_of(Checkpoint.open(tmp_path)).tensors()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"num_hidden_layers": 3}, "missing.*layers.2"),
        ({"num_hidden_layers": 1}, "does not have.*layers.1"),
        ({"intermediate_size": 511}, "mlp.*config.json says"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers"),
        ({"hidden_size": "256"}, "hidden_size"),
        ({"num_attention_heads": 3, "num_key_value_heads": 2}, "num_key_value_heads"),
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"head_dim": 63}, "even"),
        ({"rms_norm_eps": 0}, "rms_norm_eps"),
        ({"rope_scaling": {"rope_type": "longrope"}}, "rope_type"),
        ({"rope_scaling": 8}, "rope_scaling"),
        ({"vocab_size": None}, "vocab_size is missing"),
    ],
)
def test_a_configuration_that_contradicts_the_weights(tmp_path: Path, change: Any, match: str) -> None:
    config = tiny.write(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**config, **change}), encoding="utf-8")
    with pytest.raises(BadCheckpoint, match=match):
        family_of(Checkpoint.open(tmp_path)).tensors()


def test_llama3_rope_factors(tmp_path: Path) -> None:
    config = {**tiny.LLAMA, "rope_theta": 500_000.0, "rope_scaling": tiny.LLAMA3_ROPE}
    factors = _values(_family(tmp_path, config))["rope_freqs.weight"]
    assert factors.shape == (32,)
    assert factors[0] == 1.0
    assert factors[-1] == 8.0
    assert (np.diff(factors) >= 0).all()
    # The three interpolated ones as torch computes them, from a run of upstream's converter.
    expected = [
        float.fromhex(text) for text in ("0x1.2dd4d6p+0", "0x1.f928d2p+0", "0x1.c8c5b6p+1", "0x1.ecb6e6p+2")
    ]
    assert factors[6:10].tolist() == expected


@pytest.mark.parametrize("form", ["F32", "F16", "BF16"])
def test_the_file_holds_the_weights(tmp_path: Path, form: str) -> None:
    family = _family(tmp_path / "hf", tiny.QWEN3, dtype="BF16")
    events: list[Progress] = []
    write_gguf(family, tmp_path / "out.gguf", form, events.append)
    info = gguf_info.read(tmp_path / "out.gguf")
    assert info.architecture == "qwen3"
    assert info.own("attention.key_length") == 32
    assert events[-1].done == events[-1].total == info.tensor_bytes
    expected = _values(family)
    for tensor in gguf.GGUFReader(tmp_path / "out.gguf").tensors:
        norm = tensor.name.endswith("_norm.weight")
        assert tensor.tensor_type.name == ("F32" if norm else form)
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        wanted = expected[tensor.name]
        # BF16 weights are exact in F32 and BF16; F16 has more mantissa but loses the smallest values.
        tolerance = 2.0**-24 if tensor.tensor_type.name == "F16" else 0.0
        np.testing.assert_allclose(values, wanted, rtol=0, atol=tolerance)


@pytest.mark.parametrize(("value", "match"), [(np.nan, "finite"), (1e6, "too large for F16")])
def test_weights_that_f16_cannot_hold_leave_no_file(tmp_path: Path, value: float, match: str) -> None:
    config = tiny.write(tmp_path / "hf", dtype="F32")
    tensors = tiny.random_tensors(config, "F32")
    dtype, shape, data = tensors["model.layers.0.mlp.up_proj.weight"]
    spoilt = np.frombuffer(data, "<f4").copy()
    spoilt[5] = value
    tensors["model.layers.0.mlp.up_proj.weight"] = (dtype, shape, spoilt.tobytes())
    (tmp_path / "hf" / "model.safetensors").write_bytes(tiny.safetensors(tensors))
    with pytest.raises(BadCheckpoint, match=match):
        write_gguf(family_of(Checkpoint.open(tmp_path / "hf")), tmp_path / "out.gguf", "F16", no_progress)
    assert [path.name for path in tmp_path.iterdir()] == ["hf"]
