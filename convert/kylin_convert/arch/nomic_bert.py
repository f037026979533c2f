"""NomicBertModel: nomic-embed-text v1 and v1.5."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import gguf

from kylin_convert.arch.base import TensorSpec
from kylin_convert.arch.bert import Bert, both
from kylin_convert.checkpoint import Checkpoint

# The names of GPT-2, which the configuration keeps.
_NAMES = {
    "n_embd": "hidden_size",
    "n_inner": "intermediate_size",
    "n_head": "num_attention_heads",
    "n_layer": "num_hidden_layers",
    "layer_norm_epsilon": "layer_norm_eps",
}
# What llama.cpp's graph takes for granted. A key that is absent has this value, too.
_FIXED = {
    "activation_function": "swiglu",
    "causal": False,
    "qkv_proj_bias": False,
    "mlp_fc1_bias": False,
    "mlp_fc2_bias": False,
    "prenorm": False,
    "rotary_emb_fraction": 1.0,
    "rotary_emb_interleaved": False,
    "rotary_emb_scale_base": None,
}
_TRAINED_POSITIONS = 2048


class NomicBert(Bert):
    """BERT with rotary positions, a gated feed-forward network and no biases but the norms'."""

    arch = gguf.MODEL_ARCH.NOMIC_BERT

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        for key, expected in _FIXED.items():
            if self.config.values.get(key, expected) != expected:
                raise self.config.fail(key, f"is not {expected!r}, as llama.cpp takes it to be")
        # The published configuration allows 8192 positions by stretching; it was trained on 2048.
        self.positions = self.config.integer("max_trained_positions", _TRAINED_POSITIONS)

    @classmethod
    def reads(cls, checkpoint: Checkpoint) -> bool:
        """Return False for version 2, which has experts."""
        return not checkpoint.config.get("moe_every_n_layers")

    @staticmethod
    def settings(checkpoint: Checkpoint) -> Mapping[str, Any]:
        """Return the configuration with transformers' names beside its own."""
        stated = checkpoint.config
        renamed = {new: stated[old] for old, new in _NAMES.items() if stated.get(old) is not None}
        return {**renamed, **stated, "hidden_act": "gelu"}

    def specs(self) -> Iterator[TensorSpec]:
        """Yield the two embeddings, their norm and the blocks."""
        hidden, wide = self.hidden_size, self.intermediate_size
        yield TensorSpec("embeddings.word_embeddings.weight", (self.vocab_size, hidden))
        yield TensorSpec("embeddings.token_type_embeddings.weight", (self.type_count, hidden))
        yield from both("emb_ln", hidden)
        for prefix in (f"encoder.layers.{layer}" for layer in range(self.layers)):
            yield TensorSpec(f"{prefix}.attn.Wqkv.weight", (3 * hidden, hidden))
            yield TensorSpec(f"{prefix}.attn.out_proj.weight", (hidden, hidden))
            yield from both(f"{prefix}.norm1", hidden)
            yield TensorSpec(f"{prefix}.mlp.fc11.weight", (wide, hidden))
            yield TensorSpec(f"{prefix}.mlp.fc12.weight", (wide, hidden))
            yield TensorSpec(f"{prefix}.mlp.fc2.weight", (hidden, wide))
            yield from both(f"{prefix}.norm2", hidden)

    def write_parameters(self, writer: gguf.GGUFWriter, file_type: int) -> None:
        """Add the head size and the rope base beside BERT's keys."""
        super().write_parameters(writer, file_type)
        writer.add_rope_freq_base(self.config.number("rotary_emb_base", 1000.0))
        writer.add_key_length(self.hidden_size // self.heads)
        writer.add_value_length(self.hidden_size // self.heads)
