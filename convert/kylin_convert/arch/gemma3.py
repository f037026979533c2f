"""Gemma3ForCausalLM, and the language model of Gemma3ForConditionalGeneration."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace

import gguf
import numpy as np

from kylin_convert.arch.base import TensorSpec
from kylin_convert.arch.decoder import Decoder
from kylin_convert.checkpoint import Checkpoint
from kylin_convert.hyperparameters import Config, Defaults, Rope
from kylin_convert.safetensors import Array, widen
from kylin_convert.vocab import Vocabulary

_LOCAL_THETA = 10_000.0
# The image encoder and the matrices between it and the language model.
_IMAGES = re.compile(r"vision_|projector\.")


class Gemma3(Decoder):
    """The Llama block with norms on both sides of each part; most blocks attend to a window only."""

    arch = gguf.MODEL_ARCH.GEMMA3
    attention_bias = False
    defaults = Defaults(
        context_length=131_072,
        head_dim=256,
        heads=8,
        kv_heads=4,
        vocab_size=262_208,
        hidden_size=2304,
        intermediate_size=9216,
        layers=26,
        tied_embeddings=True,
        activation=("hidden_activation", "gelu_pytorch_tanh"),
        rope_theta=1_000_000.0,
        rope_types=("default", "linear"),
    )
    qk_norm = True

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        if self.config.values.get("attn_logit_softcapping") is not None:
            raise self.config.fail("attn_logit_softcapping", "is set, which no Gemma 3 has")
        nested = self.config.values.get("rope_parameters") or {}
        local = nested.get("sliding_attention") if isinstance(nested, dict) else None
        if isinstance(nested, dict) and isinstance(nested.get("full_attention"), dict):
            values = {**self.config.values, "rope_parameters": nested["full_attention"]}
            rope = Rope.parse(Config(self.config.origin, values), self.hp.context_length, self.defaults)
            self.hp = replace(self.hp, rope=rope)
        stated = self.config.number("rope_local_base_freq", _LOCAL_THETA)
        self.local_theta = Config(self.config.origin, local or {}).number("rope_theta", stated)

    @staticmethod
    def settings(checkpoint: Checkpoint) -> Mapping[str, object]:
        """Return the configuration of the language model, which is apart where there is one for images."""
        text = checkpoint.config.get("text_config")
        return text if isinstance(text, dict) else checkpoint.config

    def rename(self, name: str) -> str | None:
        """Return ``name`` without the language model's prefix; None for what deals with images."""
        kept = super().rename(name)
        return None if kept is None or _IMAGES.search(kept) else kept.replace("language_model.", "")

    def specs(self) -> Iterator[TensorSpec]:
        """Yield the tensors, norms one larger: Gemma stores them as a difference from one."""
        for spec in super().specs():
            yield replace(spec, arrange=_add_one) if spec.name.endswith("norm.weight") else spec

    def block(self, prefix: str, layer: int) -> Iterator[TensorSpec]:
        """Yield the tensors of one block."""
        hidden = (self.hp.hidden_size,)
        yield from super().block(prefix, layer)
        yield TensorSpec(f"{prefix}.pre_feedforward_layernorm.weight", hidden)
        yield TensorSpec(f"{prefix}.post_feedforward_layernorm.weight", hidden)

    def vocabulary(self) -> Vocabulary:
        """Return the tokenizer, which does not put a space before a text."""
        vocabulary = super().vocabulary()
        return replace(vocabulary, add_space_prefix=False) if vocabulary.table.scores else vocabulary

    def write_parameters(self, writer: gguf.GGUFWriter, file_type: int) -> None:
        """Add the window, and the rope base of the blocks that have one."""
        super().write_parameters(writer, file_type)
        writer.add_rope_freq_base_swa(self.local_theta)
        if (cap := self.config.optional_number("final_logit_softcapping")) is not None:
            writer.add_final_logit_softcapping(cap)
        if self.config.values.get("sliding_window_pattern") != 1:
            writer.add_sliding_window(self.config.integer("sliding_window", 4096))


def _add_one(stored: Array) -> Array:
    # In the precision they are stored in, but for BF16, which upstream widens first.
    values = widen(stored)
    return np.asarray(values + values.dtype.type(1))
