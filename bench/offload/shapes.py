"""GGUF files of known architectures' shapes without their weights: all zeros, in holes of a sparse file.

What a model takes in memory depends on its shapes and types alone. So architectures that no package index
offers can be loaded and measured here: sliding windows, experts, latent attention, recurrent layers. Figures
are those of the models that the shapes are named for, fewer layers where ``cut`` says so; tensors are as the
``load_arch_tensors`` of the pinned source asks for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np

_F32 = gguf.GGMLQuantizationType.F32
_Q4_K = gguf.GGMLQuantizationType.Q4_K
_Q5_0 = gguf.GGMLQuantizationType.Q5_0
_Q6_K = gguf.GGMLQuantizationType.Q6_K
_Q8_0 = gguf.GGMLQuantizationType.Q8_0

Tensor = tuple[str, tuple[int, ...], gguf.GGMLQuantizationType]
"""Name, shape in ggml's order, type."""


@dataclass(frozen=True)
class Shape:
    """One architecture's figures. ``own`` are metadata of the architecture, keys without its prefix;
    ``block`` yields the tensors of one layer."""

    architecture: str
    layers: int
    vocabulary: int
    width: int
    embedding: gguf.GGMLQuantizationType
    tied: bool
    own: dict[str, Any]
    block: Callable[[int], Iterator[Tensor]]
    final_norm: str = "output_norm.weight"

    def tensors(self) -> Iterator[Tensor]:
        """Yield all tensors, in the order of the file."""
        yield "token_embd.weight", (self.width, self.vocabulary), self.embedding
        for layer in range(self.layers):
            for name, shape, kind in self.block(layer):
                yield f"blk.{layer}.{name}", shape, kind
        yield self.final_norm, (self.width,), _F32
        if not self.tied:
            yield "output.weight", (self.width, self.vocabulary), _Q6_K


def write(shape: Shape, path: Path) -> Path:
    """Write ``shape`` to ``path``, which takes next to no room on disk, and return it."""
    writer = gguf.GGUFWriter(path, shape.architecture)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list([f"t{number}" for number in range(shape.vocabulary)])
    writer.add_token_types([gguf.TokenType.NORMAL] * shape.vocabulary)
    writer.add_token_merges(["t 1"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_block_count(shape.layers)
    writer.add_embedding_length(shape.width)
    for key, value in shape.own.items():
        name = f"{shape.architecture}.{key}"
        if isinstance(value, list):
            writer.add_array(name, value)
        elif isinstance(value, float):
            writer.add_float32(name, value)
        else:
            writer.add_uint32(name, value)
    end = _add_tensors(writer, shape)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    start = -(-path.stat().st_size // writer.data_alignment) * writer.data_alignment
    with path.open("r+b") as file:
        file.truncate(start + end)
    return path


def _add_tensors(writer: gguf.GGUFWriter, shape: Shape) -> int:
    """Describe the tensors; return the bytes of the data section."""
    end = 0
    for name, dimensions, kind in shape.tensors():
        block, size = gguf.GGML_QUANT_SIZES[kind]
        count = int(np.prod(dimensions)) // block * size
        rows = (*reversed(dimensions[1:]), dimensions[0] // block * size)
        stored = np.dtype(np.float32) if kind == _F32 else np.dtype(np.uint8)
        described = tuple(reversed(dimensions)) if kind == _F32 else rows
        writer.add_tensor_info(name, described, stored, count, raw_dtype=None if kind == _F32 else kind)
        end += -(-count // writer.data_alignment) * writer.data_alignment
    return end


def _attention(width: int, query: int, key_value: int, head: int) -> Iterator[Tensor]:
    """Yield attention with grouped queries and normalised heads, as Qwen3, Gemma 3 and LFM2 have it."""
    yield "attn_norm.weight", (width,), _F32
    yield "attn_q.weight", (width, query), _Q4_K
    yield "attn_k.weight", (width, key_value), _Q4_K
    yield "attn_v.weight", (width, key_value), _Q6_K
    yield "attn_output.weight", (query, width), _Q4_K
    yield "attn_q_norm.weight", (head,), _F32
    yield "attn_k_norm.weight", (head,), _F32


def _gated_attention(width: int, query: int, key_value: int, head: int) -> Iterator[Tensor]:
    """Yield the same with a gate for each query, as Qwen3.5 has it."""
    for name, shape, kind in _attention(width, query, key_value, head):
        yield name, (width, 2 * query) if name == "attn_q.weight" else shape, kind


def _feed_forward(width: int, inner: int) -> Iterator[Tensor]:
    yield "ffn_norm.weight", (width,), _F32
    yield "ffn_gate.weight", (width, inner), _Q4_K
    yield "ffn_up.weight", (width, inner), _Q4_K
    yield "ffn_down.weight", (inner, width), _Q6_K


def _experts(width: int, inner: int, count: int) -> Iterator[Tensor]:
    yield "ffn_norm.weight", (width,), _F32
    yield "ffn_gate_inp.weight", (width, count), _F32
    yield "ffn_gate_exps.weight", (width, inner, count), _Q4_K
    yield "ffn_up_exps.weight", (width, inner, count), _Q4_K
    yield "ffn_down_exps.weight", (inner, width, count), _Q6_K


def qwen3() -> Shape:
    """Return Qwen3 1.7B: dense, grouped queries."""

    def block(_: int) -> Iterator[Tensor]:
        yield from _attention(2048, 2048, 1024, 128)
        yield from _feed_forward(2048, 6144)

    heads = {"attention.head_count": 16, "attention.head_count_kv": 8}
    sizes = {"attention.key_length": 128, "attention.value_length": 128, "feed_forward_length": 6144}
    rest = {"context_length": 40960, "attention.layer_norm_rms_epsilon": 1e-6, "rope.freq_base": 1e6}
    return Shape("qwen3", 28, 151936, 2048, _Q6_K, True, {**heads, **sizes, **rest}, block)


def qwen25() -> Shape:
    """Return Qwen2.5 7B's widths in a Qwen3, which has no biases: what an 8 GB card is asked for."""

    def block(_: int) -> Iterator[Tensor]:
        yield from _attention(3584, 3584, 512, 128)
        yield from _feed_forward(3584, 18944)

    heads = {"attention.head_count": 28, "attention.head_count_kv": 4}
    sizes = {"attention.key_length": 128, "attention.value_length": 128, "feed_forward_length": 18944}
    rest = {"context_length": 32768, "attention.layer_norm_rms_epsilon": 1e-6, "rope.freq_base": 1e6}
    return Shape("qwen3", 28, 152064, 3584, _Q4_K, False, {**heads, **sizes, **rest}, block)


def gemma3() -> Shape:
    """Return Gemma 3 1B: five layers of six look back 512 tokens; a vocabulary of 262144."""

    def block(_: int) -> Iterator[Tensor]:
        width, inner = 1152, 6912
        # 1152 is no multiple of 256, so there are no k-quants of its rows.
        for name, shape, kind in (*_attention(width, 1024, 256, 256), *_feed_forward(width, inner)):
            yield name, shape, _Q5_0 if kind == _Q4_K and shape[0] % 256 else _fallback(shape, kind)
        yield "post_attention_norm.weight", (width,), _F32
        yield "post_ffw_norm.weight", (width,), _F32

    heads = {"attention.head_count": 4, "attention.head_count_kv": 1, "attention.sliding_window": 512}
    sizes = {"attention.key_length": 256, "attention.value_length": 256, "feed_forward_length": 6912}
    rest = {"context_length": 32768, "attention.layer_norm_rms_epsilon": 1e-6, "rope.freq_base": 1e6}
    return Shape("gemma3", 26, 262144, 1152, _Q8_0, True, {**heads, **sizes, **rest}, block)


def _fallback(shape: tuple[int, ...], kind: gguf.GGMLQuantizationType) -> gguf.GGMLQuantizationType:
    return _Q8_0 if kind == _Q6_K and shape[0] % 256 else kind


def qwen3moe(layers: int = 48, experts: int = 128) -> Shape:
    """Return Qwen3 30B-A3B: 128 experts, 8 used."""

    def block(_: int) -> Iterator[Tensor]:
        yield from _attention(2048, 4096, 512, 128)
        yield from _experts(2048, 768, experts)

    heads = {"attention.head_count": 32, "attention.head_count_kv": 4}
    sizes = {"attention.key_length": 128, "attention.value_length": 128, "feed_forward_length": 6144}
    counts = {"expert_count": experts, "expert_used_count": 8, "expert_feed_forward_length": 768}
    rest = {"context_length": 40960, "attention.layer_norm_rms_epsilon": 1e-6, "rope.freq_base": 1e6}
    return Shape("qwen3moe", layers, 151936, 2048, _Q4_K, False, {**heads, **sizes, **counts, **rest}, block)


def deepseek2(experts: int = 64) -> Shape:
    """Return 4 layers like DeepSeek V3's, narrower: a latent vector a token instead of keys and values."""
    width, heads, rank, rope, nope, value = 2048, 16, 512, 64, 128, 128

    def block(layer: int) -> Iterator[Tensor]:
        yield "attn_norm.weight", (width,), _F32
        yield "attn_q_a_norm.weight", (1536,), _F32
        yield "attn_kv_a_norm.weight", (rank,), _F32
        yield "attn_q_a.weight", (width, 1536), _Q4_K
        yield "attn_q_b.weight", (1536, heads * (nope + rope)), _Q4_K
        yield "attn_kv_a_mqa.weight", (width, rank + rope), _Q8_0
        yield "attn_k_b.weight", (nope, rank, heads), _Q8_0
        yield "attn_v_b.weight", (rank, value, heads), _Q8_0
        yield "attn_output.weight", (heads * value, width), _Q4_K
        if layer == 0:
            yield from _feed_forward(width, 10752)
            return
        yield from _experts(width, 1536, experts)
        for part, shape in (("gate", (width, 3072)), ("up", (width, 3072)), ("down", (3072, width))):
            yield f"ffn_{part}_shexp.weight", shape, _Q4_K

    own = {
        **{"attention.head_count": heads, "attention.head_count_kv": 1, "feed_forward_length": 10752},
        **{"attention.key_length": rank + rope, "attention.value_length": rank},
        **{"attention.key_length_mla": nope + rope, "attention.value_length_mla": value},
        **{"attention.q_lora_rank": 1536, "attention.kv_lora_rank": rank, "rope.dimension_count": rope},
        **{"expert_count": experts, "expert_used_count": 6, "expert_shared_count": 2},
        **{"expert_feed_forward_length": 1536, "leading_dense_block_count": 1},
        **{"context_length": 163840, "attention.layer_norm_rms_epsilon": 1e-6, "rope.freq_base": 1e4},
    }
    return Shape("deepseek2", 4, 102400, width, _Q4_K, False, own, block)


def lfm2() -> Shape:
    """Return LFM2 350M: ten short convolutions and six layers of attention."""
    attending = (2, 5, 8, 10, 12, 14)

    def block(layer: int) -> Iterator[Tensor]:
        if layer in attending:
            yield from _attention(1024, 1024, 512, 64)
        else:
            yield "attn_norm.weight", (1024,), _F32
            yield "shortconv.conv.weight", (3, 1024), _F32
            yield "shortconv.in_proj.weight", (1024, 3072), _Q4_K
            yield "shortconv.out_proj.weight", (1024, 1024), _Q4_K
        yield from _feed_forward(1024, 4608)

    own = {
        **{"attention.head_count": 16, "feed_forward_length": 4608, "shortconv.l_cache": 3},
        **{"attention.head_count_kv": [8 if layer in attending else 0 for layer in range(16)]},
        **{"context_length": 128000, "attention.layer_norm_rms_epsilon": 1e-5, "rope.freq_base": 1e6},
    }
    return Shape("lfm2", 16, 65536, 1024, _Q6_K, True, own, block, "token_embd_norm.weight")


def qwen35() -> Shape:
    """Return Qwen3.5 0.8B: three gated delta nets to each layer of attention."""
    width, state, groups, interval = 1024, 128, 16, 4

    def block(layer: int) -> Iterator[Tensor]:
        inner = state * groups
        yield "post_attention_norm.weight", (width,), _F32
        if (layer + 1) % interval == 0:
            yield from _gated_attention(width, 2048, 512, 256)
        else:
            yield "attn_norm.weight", (width,), _F32
            yield "attn_qkv.weight", (width, 3 * inner), _Q4_K
            yield "attn_gate.weight", (width, inner), _Q4_K
            yield "ssm_conv1d.weight", (4, 3 * inner), _F32
            yield "ssm_dt.bias", (groups,), _F32
            yield "ssm_a", (groups,), _F32
            yield "ssm_beta.weight", (width, groups), _F32
            yield "ssm_alpha.weight", (width, groups), _F32
            yield "ssm_norm.weight", (state,), _F32
            yield "ssm_out.weight", (inner, width), _Q4_K
        for name, shape, kind in _feed_forward(width, 3584):
            if name != "ffn_norm.weight":
                yield name, shape, kind

    own = {
        **{"attention.head_count": 8, "attention.head_count_kv": 2, "feed_forward_length": 3584},
        **{"attention.key_length": 256, "attention.value_length": 256, "rope.dimension_count": 64},
        **{"ssm.conv_kernel": 4, "ssm.inner_size": state * groups, "ssm.state_size": state},
        **{"ssm.time_step_rank": groups, "ssm.group_count": groups, "full_attention_interval": interval},
        **{"rope.dimension_sections": [11, 11, 10, 0], "context_length": 262144},
        **{"attention.layer_norm_rms_epsilon": 1e-6, "rope.freq_base": 1e7},
    }
    return Shape("qwen35", 24, 248320, width, _Q6_K, True, own, block)


SHAPES: dict[str, Callable[[], Shape]] = {
    "qwen2.5-7b": qwen25,
    "qwen3-30b-a3b": qwen3moe,
    "qwen3-1.7b": qwen3,
    "gemma3-1b": gemma3,
    "qwen3-30b-a3b-cut": lambda: qwen3moe(4),
    "qwen3-15b-a3b-cut": lambda: qwen3moe(4, 64),
    "deepseek2-cut": deepseek2,
    "deepseek2-small-cut": lambda: deepseek2(32),
    "lfm2-350m": lfm2,
    "qwen3.5-0.8b": qwen35,
}
MEASURED = ("qwen3-1.7b", "gemma3-1b", "qwen3-30b-a3b-cut", "deepseek2-cut", "lfm2-350m", "qwen3.5-0.8b")
"""Those that a machine with 8 GB of RAM can load."""
SMALL_TENSORS = {"qwen3-30b-a3b-cut": "qwen3-15b-a3b-cut", "deepseek2-cut": "deepseek2-small-cut"}
"""What stands for one whose tensors are larger than a driver takes."""
