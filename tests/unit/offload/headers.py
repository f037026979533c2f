"""Headers of models without files: known architectures, small."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kylin_gguf.gguf_info import GgufInfo, TensorInfo

Tensor = tuple[str, tuple[int, ...], str, int]
"""Name, shape in ggml's order, type, bytes."""


def header(
    architecture: str, tensors: Iterable[Tensor], layers: int = 2, width: int = 64, **own: Any
) -> GgufInfo:
    """Return a header; ``own`` are the architecture's own values, ``__`` in their names for dots."""
    values = {name.replace("__", "."): value for name, value in own.items()}
    heads = values.get("attention.head_count_kv", 2)
    return GgufInfo(
        path=Path("m.gguf"),
        file_size=0,
        version=3,
        kind="model",
        architecture=architecture,
        name="m",
        size_label="",
        file_type="",
        parameters=0,
        layers=layers,
        embedding_length=width,
        context_length=1 << 20,
        head_count=4,
        head_count_kv=heads if isinstance(heads, tuple) else (heads,),
        vocab_size=100,
        chat_template="",
        tokenizer_model="gpt2",
        tokenizer_pre="",
        bos_id=None,
        eos_id=None,
        licence="",
        languages=(),
        tensors=tuple(TensorInfo(name, shape, kind, size, 0) for name, shape, kind, size in tensors),
        metadata={f"{architecture}.{name}": value for name, value in values.items()},
    )


def dense(layers: int = 2, *, tied: bool = False, kind: str = "Q4_K", layer_bytes: int = 1000) -> GgufInfo:
    """Return a dense model: 64 wide, two of four heads with keys and values."""
    tensors: list[Tensor] = [("token_embd.weight", (64, 100), "Q6_K", 500)]
    for layer in range(layers):
        tensors += [
            (f"blk.{layer}.attn_k.weight", (64, 32), kind, 100),
            (f"blk.{layer}.attn_v.weight", (64, 32), kind, 100),
            (f"blk.{layer}.ffn_up.weight", (64, 256), kind, layer_bytes - 200),
        ]
    tensors.append(("output_norm.weight", (64,), "F32", 10))
    if not tied:
        tensors.append(("output.weight", (64, 100), "Q6_K", 700))
    return header("llama", tensors, layers, feed_forward_length=256)


def mixture(layers: int = 2) -> GgufInfo:
    """Return a model with experts: 100 bytes of a layer are dense, 900 are experts."""
    tensors: list[Tensor] = [("token_embd.weight", (64, 100), "Q6_K", 500)]
    for layer in range(layers):
        tensors += [
            (f"blk.{layer}.attn_k.weight", (64, 32), "Q4_K", 100),
            (f"blk.{layer}.ffn_up_exps.weight", (64, 32, 8), "Q4_K", 900),
        ]
    tensors.append(("output.weight", (64, 100), "Q6_K", 700))
    counts = {"expert_count": 8, "expert_used_count": 2, "expert_feed_forward_length": 32}
    return header("qwen3moe", tensors, layers, **counts)
