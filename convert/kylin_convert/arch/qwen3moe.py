"""Qwen3MoeForCausalLM."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import gguf

from kylin_convert.arch.base import TensorSpec
from kylin_convert.arch.decoder import Decoder
from kylin_convert.checkpoint import Checkpoint
from kylin_convert.hyperparameters import Defaults
from kylin_convert.safetensors import Array

_MAX_EXPERTS = 1 << 12


class Qwen3Moe(Decoder):
    """Qwen3 with experts, which GGUF keeps as one tensor for each of a block's three matrices."""

    arch = gguf.MODEL_ARCH.QWEN3MOE
    attention_bias = False
    defaults = Defaults(kv_heads=4)
    qk_norm = True

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        key = "num_local_experts" if "num_local_experts" in self.config.values else "num_experts"
        self.experts = self.config.integer(key, 128, limit=_MAX_EXPERTS)
        self.experts_used = self.config.integer("num_experts_per_tok", 8, limit=self.experts)
        self.expert_size = self.config.integer("moe_intermediate_size", 768)
        # llama.cpp's qwen3moe has experts in every block.
        if self.config.values.get("mlp_only_layers") or self.config.integer("decoder_sparse_step", 1) != 1:
            raise self.config.fail(
                "mlp_only_layers", "names blocks without experts, which llama.cpp cannot run"
            )

    def feed_forward(self, prefix: str, layer: int) -> Iterator[TensorSpec]:
        """Yield the router and the experts, stacked."""
        hidden, size = self.hp.hidden_size, self.expert_size
        yield TensorSpec(f"{prefix}.gate.weight", (self.experts, hidden))
        if f"{prefix}.experts.gate_up_proj" in self.stored:
            yield from self._stacked(f"{prefix}.experts")
            return
        for matrix, shape in (("down", (hidden, size)), ("gate", (size, hidden)), ("up", (size, hidden))):
            parts = tuple(f"{prefix}.experts.{i}.{matrix}_proj.weight" for i in range(self.experts))
            yield TensorSpec(f"{prefix}.experts.{matrix}_proj.weight", shape, parts=parts)

    def _stacked(self, prefix: str) -> Iterator[TensorSpec]:
        """Yield the experts as transformers 5 holds them in memory: stacked, two of the matrices in one."""
        count, hidden, size = self.experts, self.hp.hidden_size, self.expert_size
        yield TensorSpec(f"{prefix}.down_proj.weight", (count, hidden, size), stored=f"{prefix}.down_proj")
        for first, matrix in ((0, "gate"), (size, "up")):
            yield TensorSpec(
                f"{prefix}.{matrix}_proj.weight",
                (count, 2 * size, hidden),
                arrange=partial(_rows, first=first, count=size),
                result=(count, size, hidden),
                stored=f"{prefix}.gate_up_proj",
            )

    def write_parameters(self, writer: gguf.GGUFWriter, file_type: int) -> None:
        """Add the number and size of the experts."""
        super().write_parameters(writer, file_type)
        writer.add_expert_count(self.experts)
        writer.add_expert_used_count(self.experts_used)
        writer.add_expert_feed_forward_length(self.expert_size)


def _rows(stored: Array, first: int, count: int) -> Array:
    return stored[:, first : first + count]
