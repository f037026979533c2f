"""Small random checkpoints in every shape the converter knows, with tokenizers of their own."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tests.tiny_tokenizers import byte_level_bpe, sentencepiece

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
QWEN2 = {**LLAMA, "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"}
QWEN3 = {**LLAMA, "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "head_dim": 32}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 256,
}
Tensors = dict[str, tuple[str, tuple[int, ...], bytes]]


def shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return the tensors that transformers would save for ``config``."""
    hidden, wide = config["hidden_size"], config["intermediate_size"]
    size = config.get("head_dim", hidden // config["num_attention_heads"])
    rows = {
        "q": config["num_attention_heads"],
        "k": config["num_key_value_heads"],
        "v": config["num_key_value_heads"],
    }
    result: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (config["vocab_size"], hidden)}
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}"
        for name, heads in rows.items():
            result[f"{prefix}.self_attn.{name}_proj.weight"] = (heads * size, hidden)
            if config["model_type"] == "qwen2":
                result[f"{prefix}.self_attn.{name}_proj.bias"] = (heads * size,)
            if config["model_type"] == "qwen3" and name != "v":
                result[f"{prefix}.self_attn.{name}_norm.weight"] = (size,)
        result[f"{prefix}.self_attn.o_proj.weight"] = (hidden, rows["q"] * size)
        result[f"{prefix}.mlp.gate_proj.weight"] = result[f"{prefix}.mlp.up_proj.weight"] = (wide, hidden)
        result[f"{prefix}.mlp.down_proj.weight"] = (hidden, wide)
        result[f"{prefix}.input_layernorm.weight"] = result[f"{prefix}.post_attention_layernorm.weight"] = (
            hidden,
        )
    result["model.norm.weight"] = (hidden,)
    if not config["tie_word_embeddings"]:
        result["lm_head.weight"] = (config["vocab_size"], hidden)
    return result


def random_tensors(config: Mapping[str, Any], dtype: str = "BF16", seed: int = 0) -> Tensors:
    """Return weights of the scale that a fresh model has; norms are one."""
    generator = np.random.default_rng(seed)
    result: Tensors = {}
    for name, shape in shapes(config).items():
        norm = name.endswith("norm.weight")
        values = np.ones(shape, "<f4") if norm else generator.normal(0, 0.02, shape).astype("<f4")
        data = {"F32": values, "F16": values.astype("<f2"), "BF16": (values.view("<u4") >> 16).astype("<u2")}[
            dtype
        ]
        result[name] = (dtype, shape, data.tobytes())
    return result


def safetensors(tensors: Tensors) -> bytes:
    """Return the bytes of a safetensors file."""
    header, offset = {}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + b"".join(data for _, _, data in tensors.values())


def write(
    folder: Path,
    config: Mapping[str, Any] = LLAMA,
    *,
    tokenizer: str = "spm",
    dtype: str = "BF16",
    shards: int = 1,
) -> dict[str, Any]:
    """Write a whole checkpoint folder and return its configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    size = sentencepiece(folder) if tokenizer == "spm" else byte_level_bpe(folder)
    full = {**config, "vocab_size": size}
    (folder / "config.json").write_text(json.dumps(full), encoding="utf-8")
    tensors = list(random_tensors(full, dtype).items())
    if shards == 1:
        (folder / "model.safetensors").write_bytes(safetensors(dict(tensors)))
        return full
    weight_map = {}
    for number in range(shards):
        part, name = dict(tensors[number::shards]), f"model-{number + 1:05}-of-{shards:05}.safetensors"
        (folder / name).write_bytes(safetensors(part))
        weight_map.update(dict.fromkeys(part, name))
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    return full
