"""MiniCPM3ForCausalLM."""

from __future__ import annotations

from collections.abc import Iterator

import gguf

from kylin_convert.arch.base import OutputTensor, TensorSpec
from kylin_convert.arch.decoder import Decoder
from kylin_convert.checkpoint import Checkpoint
from kylin_convert.hyperparameters import Defaults

# llama.cpp's graph of this architecture has these numbers in its code, not in the file.
_SCALES = {"scale_emb": 12, "scale_depth": 1.4, "dim_model_base": 256}


class MiniCPM3(Decoder):
    """Attention through low-rank projections: a head's rows are part rotated, part not."""

    arch = gguf.MODEL_ARCH.MINICPM3
    defaults = Defaults(
        rms_eps=1e-5, tied_embeddings=True, rope_types=("default", "longrope"), rope_theta=10_000.0
    )

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        config = self.config
        self.query_rank = config.integer("q_lora_rank", 768)
        self.key_rank = config.integer("kv_lora_rank", 256)
        self.plain = config.integer("qk_nope_head_dim", 64)
        self.rotated = config.integer("qk_rope_head_dim", 32)
        self.value_size = self.hp.hidden_size // self.hp.heads
        if config.integer("v_head_dim", self.value_size) != self.value_size:
            raise config.fail("v_head_dim", f"is not {self.value_size}, as llama.cpp takes it to be")
        for key, value in _SCALES.items():
            if config.number(key, value) != value:
                raise config.fail(key, f"is not {value}, as llama.cpp takes it to be")

    def attention(self, prefix: str) -> Iterator[TensorSpec]:
        """Yield the two halves of each projection and the norm between them."""
        hp, key_size = self.hp, self.plain + self.rotated
        yield TensorSpec(f"{prefix}.q_a_proj.weight", (self.query_rank, hp.hidden_size))
        yield TensorSpec(f"{prefix}.q_a_layernorm.weight", (self.query_rank,))
        yield TensorSpec(f"{prefix}.q_b_proj.weight", (hp.heads * key_size, self.query_rank))
        yield TensorSpec(
            f"{prefix}.kv_a_proj_with_mqa.weight", (self.key_rank + self.rotated, hp.hidden_size)
        )
        yield TensorSpec(f"{prefix}.kv_a_layernorm.weight", (self.key_rank,))
        rows = hp.heads * (self.plain + self.value_size)
        yield TensorSpec(f"{prefix}.kv_b_proj.weight", (rows, self.key_rank))
        yield TensorSpec(f"{prefix}.o_proj.weight", (hp.hidden_size, hp.heads * self.value_size))

    def extra_tensors(self) -> list[OutputTensor]:
        """Return the longrope factors."""
        return self.long_rope_tensors(self.rotated)

    def write_parameters(self, writer: gguf.GGUFWriter, file_type: int) -> None:
        """Add the keys that llama.cpp reads; the scales and the rope base are in its code."""
        hp = self.hp
        writer.add_file_type(file_type)
        writer.add_context_length(hp.context_length)
        writer.add_embedding_length(hp.hidden_size)
        writer.add_block_count(hp.layers)
        writer.add_feed_forward_length(hp.intermediate_size)
        writer.add_head_count(hp.heads)
        writer.add_head_count_kv(hp.kv_heads)
        writer.add_layer_norm_rms_eps(hp.rms_eps)
        writer.add_vocab_size(hp.vocab_size)
        writer.add_q_lora_rank(self.query_rank)
        writer.add_kv_lora_rank(self.key_rank)
        writer.add_key_length(self.plain + self.rotated)
        writer.add_rope_dimension_count(self.rotated)
