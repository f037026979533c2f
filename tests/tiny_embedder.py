"""Small random embedding models: a BERT with a WordPiece vocabulary, and a Llama that states a pooling."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt

WIDTH, WIDE, HEADS, LAYERS = 64, 128, 4, 2
CONTEXT = 48
"""Positions the model has: no multiple of what llama.cpp rounds contexts up to."""

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDS = ("the", "house", "stands", "on", "hill", "cat", "sleeps", "under", "table", "rain", "天", "气")

Tensors = Mapping[str, npt.NDArray[np.float32]]


def bert(path: Path, *, pooling: gguf.PoolingType | None = gguf.PoolingType.MEAN, seed: int = 7) -> Tensors:
    """Write a BERT and return its tensors by their names in the file."""
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_name("Tiny BERT")
    _shape(writer)
    writer.add_layer_norm_eps(1e-12)
    writer.add_causal_attention(False)
    if pooling is not None:
        writer.add_pooling_type(pooling)
    # As the converters store WordPiece: what begins a word has a mark, what continues one has none.
    writer.add_tokenizer_model("bert")
    pieces = [*SPECIAL, *("\u2581" + word for word in WORDS), "s", "ing"]
    writer.add_token_list(pieces)
    kinds = [gguf.TokenType.CONTROL] * len(SPECIAL) + [gguf.TokenType.NORMAL] * (len(pieces) - len(SPECIAL))
    writer.add_token_types(kinds)
    writer.add_token_type_count(2)
    writer.add_pad_token_id(0)
    writer.add_unk_token_id(1)
    writer.add_bos_token_id(2)
    writer.add_sep_token_id(3)
    writer.add_mask_token_id(4)
    return _finish(writer, _bert_shapes(len(pieces)), seed)


def decoder(path: Path, *, pooling: gguf.PoolingType = gguf.PoolingType.LAST, seed: int = 7) -> Tensors:
    """Write a Llama of the same size, as fine-tunes for vectors are, with bytes as its vocabulary."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("Tiny decoder")
    _shape(writer, context=4096)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_pooling_type(pooling)
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(pieces)
    writer.add_token_scores([0.0] * len(pieces))
    control = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL]
    writer.add_token_types(control + [gguf.TokenType.BYTE] * 256)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(True)
    return _finish(writer, _llama_shapes(len(pieces)), seed)


def _shape(writer: gguf.GGUFWriter, context: int = CONTEXT) -> None:
    writer.add_context_length(context)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(WIDE)
    writer.add_block_count(LAYERS)
    writer.add_head_count(HEADS)


def _bert_shapes(vocabulary: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the tensors, rows first; names in ``norm`` and ``bias`` are what they say."""
    result: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (vocabulary, WIDTH),
        "token_types.weight": (2, WIDTH),
        "position_embd.weight": (CONTEXT, WIDTH),
        **_with_bias("token_embd_norm", (WIDTH,)),
    }
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            result |= _with_bias(f"{block}.{name}", (WIDTH, WIDTH))
        result |= _with_bias(f"{block}.ffn_up", (WIDE, WIDTH))
        result |= _with_bias(f"{block}.ffn_down", (WIDTH, WIDE))
        result |= _with_bias(f"{block}.attn_output_norm", (WIDTH,))
        result |= _with_bias(f"{block}.layer_output_norm", (WIDTH,))
    return result


def _with_bias(name: str, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def _llama_shapes(vocabulary: int) -> dict[str, tuple[int, ...]]:
    result: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (vocabulary, WIDTH),
        "output_norm.weight": (WIDTH,),
    }
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            result[f"{block}.{name}.weight"] = (WIDTH, WIDTH)
        result[f"{block}.ffn_gate.weight"] = result[f"{block}.ffn_up.weight"] = (WIDE, WIDTH)
        result[f"{block}.ffn_down.weight"] = (WIDTH, WIDE)
        result[f"{block}.attn_norm.weight"] = result[f"{block}.ffn_norm.weight"] = (WIDTH,)
    return result


def _finish(writer: gguf.GGUFWriter, shapes: Mapping[str, tuple[int, ...]], seed: int) -> Tensors:
    generator = np.random.default_rng(seed)
    tensors = {
        name: (generator.normal(0, 0.2, shape) + name.endswith("norm.weight")).astype(np.float32)
        for name, shape in shapes.items()
    }
    for name, values in tensors.items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tensors
