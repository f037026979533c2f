"""The tensors that transformers saves for a configuration of each family, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Shapes = dict[str, tuple[int, ...]]


def _attention(prefix: str, config: Mapping[str, Any], bias: bool, norm: bool) -> Shapes:
    size = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    heads = {part: config["num_key_value_heads"] for part in ("k", "v")}
    result: Shapes = {}
    for part, count in {"q": config["num_attention_heads"], **heads}.items():
        result[f"{prefix}.{part}_proj.weight"] = (count * size, config["hidden_size"])
        if bias:
            result[f"{prefix}.{part}_proj.bias"] = (count * size,)
        if norm and part != "v":
            result[f"{prefix}.{part}_norm.weight"] = (size,)
    result[f"{prefix}.o_proj.weight"] = (config["hidden_size"], config["num_attention_heads"] * size)
    return result


def _gated(prefix: str, hidden: int, wide: int) -> Shapes:
    return {
        f"{prefix}.gate_proj.weight": (wide, hidden),
        f"{prefix}.up_proj.weight": (wide, hidden),
        f"{prefix}.down_proj.weight": (hidden, wide),
    }


def _decoder(
    config: Mapping[str, Any],
    attention: Callable[[str], Shapes],
    feed_forward: Callable[[str], Shapes],
    norms: tuple[str, ...] = ("input_layernorm", "post_attention_layernorm"),
) -> Shapes:
    hidden = config["hidden_size"]
    result: Shapes = {"model.embed_tokens.weight": (config["vocab_size"], hidden)}
    for prefix in (f"model.layers.{layer}" for layer in range(config["num_hidden_layers"])):
        result |= attention(f"{prefix}.self_attn") | feed_forward(f"{prefix}.mlp")
        result |= {f"{prefix}.{norm}.weight": (hidden,) for norm in norms}
    result["model.norm.weight"] = (hidden,)
    if not config.get("tie_word_embeddings"):
        result["lm_head.weight"] = (config["vocab_size"], hidden)
    return result


def llama(config: Mapping[str, Any], bias: bool = False, norm: bool = False) -> Shapes:
    """Return the tensors of the plain block and its closest relatives."""
    return _decoder(
        config,
        lambda prefix: _attention(prefix, config, bias, norm),
        lambda prefix: _gated(prefix, config["hidden_size"], config["intermediate_size"]),
    )


def qwen2(config: Mapping[str, Any]) -> Shapes:
    """Return Qwen2's tensors."""
    return llama(config, bias=True)


def qwen3(config: Mapping[str, Any]) -> Shapes:
    """Return Qwen3's tensors."""
    return llama(config, norm=True)


def qwen3_embedding(config: Mapping[str, Any]) -> Shapes:
    """Return Qwen3's tensors as Qwen3-Embedding names them."""
    return {name.removeprefix("model."): shape for name, shape in qwen3(config).items()}


def qwen3_moe(config: Mapping[str, Any]) -> Shapes:
    """Return Qwen3-MoE's tensors, as they are published."""

    def experts(prefix: str) -> Shapes:
        result: Shapes = {f"{prefix}.gate.weight": (config["num_experts"], config["hidden_size"])}
        for i in range(config["num_experts"]):
            result |= _gated(f"{prefix}.experts.{i}", config["hidden_size"], config["moe_intermediate_size"])
        return result

    return _decoder(config, lambda prefix: _attention(prefix, config, False, True), experts)


def qwen3_moe_stacked(config: Mapping[str, Any]) -> Shapes:
    """Return Qwen3-MoE's tensors, as transformers 5 holds them in memory."""
    count, hidden, size = config["num_experts"], config["hidden_size"], config["moe_intermediate_size"]
    result = {name: shape for name, shape in qwen3_moe(config).items() if ".experts." not in name}
    for prefix in (f"model.layers.{layer}.mlp.experts" for layer in range(config["num_hidden_layers"])):
        result[f"{prefix}.gate_up_proj"] = (count, 2 * size, hidden)
        result[f"{prefix}.down_proj"] = (count, hidden, size)
    return result


def minicpm3(config: Mapping[str, Any]) -> Shapes:
    """Return MiniCPM3's tensors."""
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    query, key = config["q_lora_rank"], config["kv_lora_rank"]
    plain, rotated, value = config["qk_nope_head_dim"], config["qk_rope_head_dim"], hidden // heads

    def attention(prefix: str) -> Shapes:
        return {
            f"{prefix}.q_a_proj.weight": (query, hidden),
            f"{prefix}.q_a_layernorm.weight": (query,),
            f"{prefix}.q_b_proj.weight": (heads * (plain + rotated), query),
            f"{prefix}.kv_a_proj_with_mqa.weight": (key + rotated, hidden),
            f"{prefix}.kv_a_layernorm.weight": (key,),
            f"{prefix}.kv_b_proj.weight": (heads * (plain + value), key),
            f"{prefix}.o_proj.weight": (hidden, heads * value),
        }

    return _decoder(config, attention, lambda prefix: _gated(prefix, hidden, config["intermediate_size"]))


def gemma3(config: Mapping[str, Any]) -> Shapes:
    """Return Gemma 3's tensors."""
    norms = (
        "input_layernorm",
        "post_attention_layernorm",
        "pre_feedforward_layernorm",
        "post_feedforward_layernorm",
    )
    return _decoder(
        config,
        lambda prefix: _attention(prefix, config, False, True),
        lambda prefix: _gated(prefix, config["hidden_size"], config["intermediate_size"]),
        norms,
    )


def gemma3_with_vision(config: Mapping[str, Any]) -> Shapes:
    """Return the tensors of a Gemma 3 that sees, of its image encoder only a few."""
    text = {f"language_model.{name}": shape for name, shape in gemma3(config).items()}
    vision = "vision_tower.vision_model.encoder.layers.0.self_attn.q_proj.weight"
    return {**text, vision: (8, 8), "multi_modal_projector.mm_soft_emb_norm.weight": (8,)}


def _both(prefix: str, *shape: int) -> Shapes:
    return {f"{prefix}.weight": shape, f"{prefix}.bias": shape[:1]}


def bert(config: Mapping[str, Any]) -> Shapes:
    """Return BERT's tensors."""
    hidden, wide = config["hidden_size"], config["intermediate_size"]
    result: Shapes = {
        "embeddings.word_embeddings.weight": (config["vocab_size"], hidden),
        "embeddings.position_embeddings.weight": (config["max_position_embeddings"], hidden),
        "embeddings.token_type_embeddings.weight": (config["type_vocab_size"], hidden),
        **_both("embeddings.LayerNorm", hidden),
        **_both("pooler.dense", hidden, hidden),
    }
    for prefix in (f"encoder.layer.{layer}" for layer in range(config["num_hidden_layers"])):
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            result |= _both(f"{prefix}.attention.{part}", hidden, hidden)
        result |= _both(f"{prefix}.attention.output.LayerNorm", hidden)
        result |= _both(f"{prefix}.intermediate.dense", wide, hidden) | _both(
            f"{prefix}.output.dense", hidden, wide
        )
        result |= _both(f"{prefix}.output.LayerNorm", hidden)
    return result


def bert_of_2018(config: Mapping[str, Any]) -> Shapes:
    """Return BERT's tensors under the names of the first checkpoints, with the heads of its training."""
    result: Shapes = {}
    for name, shape in bert(config).items():
        old = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        result[f"bert.{old}"] = shape
    head = {"cls.predictions.bias": (config["vocab_size"],), "cls.seq_relationship.bias": (2,)}
    return {**result, **head}


def nomic(config: Mapping[str, Any]) -> Shapes:
    """Return the tensors of nomic-embed-text."""
    hidden, wide = config["n_embd"], config["n_inner"]
    result: Shapes = {
        "embeddings.word_embeddings.weight": (config["vocab_size"], hidden),
        "embeddings.token_type_embeddings.weight": (2, hidden),
        **_both("emb_ln", hidden),
    }
    for prefix in (f"encoder.layers.{layer}" for layer in range(config["n_layer"])):
        result |= {
            f"{prefix}.attn.Wqkv.weight": (3 * hidden, hidden),
            f"{prefix}.attn.out_proj.weight": (hidden, hidden),
            f"{prefix}.mlp.fc11.weight": (wide, hidden),
            f"{prefix}.mlp.fc12.weight": (wide, hidden),
            f"{prefix}.mlp.fc2.weight": (hidden, wide),
            **_both(f"{prefix}.norm1", hidden),
            **_both(f"{prefix}.norm2", hidden),
        }
    return result
