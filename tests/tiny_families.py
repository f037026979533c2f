"""A small random checkpoint of every family and of every variation that has a branch in the converter.

The weights come from a bit generator, whose stream NumPy guarantees, so that a checkpoint is the same bytes
wherever it is made, and what upstream's converter made of it can be kept.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tests import tiny_tokenizers as tokenizers
from tests.tiny_checkpoint import safetensors
from tests.tiny_shapes import (
    Shapes,
    bert,
    bert_of_2018,
    gemma3,
    gemma3_with_vision,
    llama,
    minicpm3,
    nomic,
    qwen2,
    qwen3,
    qwen3_embedding,
    qwen3_moe,
    qwen3_moe_stacked,
)

HIDDEN, WIDE, HEADS, KV_HEADS, LAYERS = 64, 96, 4, 2, 2
HEAD = HIDDEN // HEADS

BASE: Mapping[str, Any] = {
    "hidden_size": HIDDEN,
    "intermediate_size": WIDE,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
    "max_position_embeddings": 1024,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 256, "beta_fast": 32.0}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 256,
}


def _longrope(count: int) -> dict[str, Any]:
    long = [1.0 + i / 3 for i in range(count)]
    return {
        "rope_type": "longrope",
        "long_factor": long,
        "short_factor": [1.0] * count,
        "original_max_position_embeddings": 256,
    }


@dataclass(frozen=True)
class Case:
    """``shapes`` gives the tensors that transformers saves for ``config``, ``files`` what is beside them."""

    config: Mapping[str, Any]
    tokenizer: Callable[[Path], int]
    shapes: Callable[[Mapping[str, Any]], Shapes]
    dtype: str = "BF16"
    files: Mapping[str, Any] = field(default_factory=dict)
    padding: int = 0
    """Rows of the embedding beyond the tokenizer's tokens."""

    def write(self, folder: Path) -> None:
        """Write the checkpoint."""
        folder.mkdir(parents=True)
        size = {"vocab_size": self.tokenizer(folder) + self.padding}
        config = {**self.config, **size}
        if "text_config" in self.config:
            config = {**self.config, "text_config": {**self.config["text_config"], **size}}
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
        flat = {**config, **config.get("text_config", {})}
        content = safetensors({n: random_tensor(n, s, self.dtype) for n, s in self.shapes(flat).items()})
        (folder / "model.safetensors").write_bytes(content)
        for name, value in self.files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(json.dumps(value), encoding="utf-8")


def random_tensor(name: str, shape: tuple[int, ...], dtype: str) -> tuple[str, tuple[int, ...], bytes]:
    """Return a tensor's type, shape and bytes; ``name`` decides which."""
    raw = np.random.PCG64(sum(name.encode())).random_raw(int(np.prod(shape))) >> np.uint64(40)
    values = ((raw.astype(np.float64) / (1 << 24) - 0.5) / 8).astype("<f4").reshape(shape)
    if dtype == "BF16":
        return "BF16", shape, (values.view("<u4") >> 16).astype("<u2").tobytes()
    return dtype, shape, values.astype({"F32": "<f4", "F16": "<f2"}[dtype]).tobytes()


def _config(architecture: str, model_type: str, **more: Any) -> dict[str, Any]:
    return {"architectures": [architecture], "model_type": model_type, **BASE, **more}


def _encoder(architecture: str, model_type: str, **more: Any) -> dict[str, Any]:
    decoders = ("num_key_value_heads", "rms_norm_eps", "bos_token_id", "eos_token_id")
    stated = {key: value for key, value in BASE.items() if key not in decoders}
    return {"architectures": [architecture], "model_type": model_type, **stated, **more}


_MINICPM = {"scale_emb": 12, "scale_depth": 1.4, "dim_model_base": 32, "rope_theta": 10000.0}
_MLA = {
    "q_lora_rank": 24,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 8,
    "num_key_value_heads": HEADS,
    "scale_emb": 12,
    "scale_depth": 1.4,
    "dim_model_base": 256,
}
_BERT = {"type_vocab_size": 2, "layer_norm_eps": 1e-12, "max_position_embeddings": 48, "pad_token_id": 0}
_NOMIC = {
    "n_embd": HIDDEN,
    "n_inner": WIDE,
    "n_head": HEADS,
    "n_layer": LAYERS,
    "n_positions": 8192,
    "max_trained_positions": 2048,
    "max_position_embeddings": 2048,
    "activation_function": "swiglu",
    "causal": False,
    "qkv_proj_bias": False,
    "mlp_fc1_bias": False,
    "mlp_fc2_bias": False,
    "prenorm": False,
    "rotary_emb_base": 1000,
    "rotary_emb_fraction": 1.0,
    "rotary_emb_interleaved": False,
    "rotary_emb_scale_base": None,
    "type_vocab_size": 2,
}
_GEMMA = {
    "head_dim": 32,
    "sliding_window": 512,
    "tie_word_embeddings": True,
    "hidden_activation": "gelu_pytorch_tanh",
}
_POOLING = {
    "modules.json": [{"type": "sentence_transformers.models.Pooling", "path": "1_Pooling"}],
    "1_Pooling/config.json": {"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True},
}
_LAST = {**_POOLING, "1_Pooling/config.json": {"pooling_mode_lasttoken": True}}
_SPM, _BPE, _WORDS = tokenizers.sentencepiece, tokenizers.byte_level_bpe, tokenizers.wordpiece

CASES: Mapping[str, Case] = {
    "llama": Case(_config("LlamaForCausalLM", "llama"), _SPM, llama, padding=5),
    "llama-f32": Case(_config("LlamaForCausalLM", "llama", head_dim=32), _BPE, llama, "F32"),
    "llama-rope3": Case(
        _config("LlamaForCausalLM", "llama", rope_theta=5e5, rope_scaling=LLAMA3), _BPE, llama
    ),
    "llama-linear": Case(
        _config("LlamaForCausalLM", "llama", rope_scaling={"type": "linear", "factor": 2.0}),
        _SPM,
        llama,
        "F16",
    ),
    "mistral": Case(_config("MistralForCausalLM", "mistral", sliding_window=128), _SPM, llama),
    "smollm3": Case(_config("SmolLM3ForCausalLM", "smollm3", tie_word_embeddings=True), _BPE, llama),
    "qwen2": Case(_config("Qwen2ForCausalLM", "qwen2"), _BPE, qwen2, padding=3),
    "qwen2-yarn": Case(_config("Qwen2ForCausalLM", "qwen2", rope_scaling=YARN), _BPE, qwen2),
    "qwen3": Case(_config("Qwen3ForCausalLM", "qwen3", head_dim=32, rope_theta=1e6), _BPE, qwen3),
    "qwen3-embedding": Case(
        _config("Qwen3ForCausalLM", "qwen3", head_dim=32, tie_word_embeddings=True),
        _BPE,
        qwen3_embedding,
        files=_LAST,
    ),
    "qwen3-moe": Case(
        _config(
            "Qwen3MoeForCausalLM",
            "qwen3_moe",
            head_dim=16,
            num_experts=4,
            num_experts_per_tok=2,
            moe_intermediate_size=32,
        ),
        _BPE,
        qwen3_moe,
    ),
    "qwen3-moe-stacked": Case(
        _config(
            "Qwen3MoeForCausalLM",
            "qwen3_moe",
            head_dim=16,
            num_experts=4,
            num_experts_per_tok=2,
            moe_intermediate_size=32,
        ),
        _BPE,
        qwen3_moe_stacked,
    ),
    "minicpm": Case(_config("MiniCPMForCausalLM", "minicpm", **_MINICPM), _SPM, llama),
    "minicpm4": Case(
        _config("MiniCPMForCausalLM", "minicpm", **_MINICPM, rope_scaling=_longrope(HEAD // 2)), _SPM, llama
    ),
    "minicpm3": Case(
        _config("MiniCPM3ForCausalLM", "minicpm3", **_MLA, rope_scaling=_longrope(4)), _SPM, minicpm3
    ),
    "gemma3": Case(_config("Gemma3ForCausalLM", "gemma3_text", **_GEMMA), _SPM, gemma3),
    "gemma3-f16": Case(
        _config(
            "Gemma3ForCausalLM",
            "gemma3_text",
            **_GEMMA,
            rope_scaling={"rope_type": "linear", "factor": 8.0},
            final_logit_softcapping=30.0,
        ),
        _SPM,
        gemma3,
        "F16",
    ),
    "gemma3-vision": Case(
        {
            "architectures": ["Gemma3ForConditionalGeneration"],
            "model_type": "gemma3",
            "eos_token_id": [1, 2],
            "text_config": {"model_type": "gemma3_text", **BASE, **_GEMMA},
        },
        _SPM,
        gemma3_with_vision,
    ),
    "bert": Case(_encoder("BertModel", "bert", **_BERT), _WORDS, bert, "F32", files=_POOLING),
    "bert-mlm": Case(_encoder("BertForMaskedLM", "bert", **_BERT), _WORDS, bert_of_2018, "F32", padding=2),
    "xlm-roberta": Case(
        _encoder("XLMRobertaModel", "xlm-roberta", **{**_BERT, "pad_token_id": 1, "type_vocab_size": 1}),
        tokenizers.unigram,
        bert,
        "F32",
        files=_POOLING,
    ),
    "xlm-roberta-json": Case(
        _encoder("XLMRobertaModel", "xlm-roberta", **{**_BERT, "pad_token_id": 1, "type_vocab_size": 1}),
        tokenizers.unigram_json,
        bert,
        "F16",
    ),
    "nomic-bert": Case(
        _encoder("NomicBertModel", "nomic_bert", **_NOMIC), _WORDS, nomic, "F32", files=_POOLING
    ),
}
