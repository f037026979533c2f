"""The Llama block, which most decoders are variations of."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property, partial
from typing import ClassVar

import gguf
import numpy as np

from kylin_convert.arch.base import Family, OutputTensor, TensorSpec
from kylin_convert.checkpoint import Checkpoint
from kylin_convert.hyperparameters import Defaults, Hyperparameters
from kylin_convert.safetensors import Array


class Decoder(Family):
    """Subclasses state how theirs differs from the plain block."""

    defaults: ClassVar[Defaults] = Defaults()
    attention_bias: ClassVar[bool | None] = None
    """Whether query, key and value have biases; None: they may, and so may the output."""
    qk_norm: ClassVar[bool] = False
    pairs_rows: ClassVar[bool] = False
    """Whether llama.cpp rotates neighbouring rows of this architecture, not those half a head apart."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        self.hp = Hyperparameters.parse(self.config, self.defaults)

    @property
    def layers(self) -> int:
        """Number of blocks."""
        return self.hp.layers

    @property
    def vocab_size(self) -> int:
        """Rows of the embedding."""
        return self.hp.vocab_size

    def specs(self) -> Iterator[TensorSpec]:
        """Yield the embedding, the blocks, the norm and the output matrix."""
        hp = self.hp
        yield TensorSpec("model.embed_tokens.weight", (hp.vocab_size, hp.hidden_size))
        for layer in range(hp.layers):
            yield from self.block(f"model.layers.{layer}", layer)
        yield TensorSpec("model.norm.weight", (hp.hidden_size,))
        # Without its own output matrix llama.cpp reuses the embedding, which is only right when tied.
        yield TensorSpec("lm_head.weight", (hp.vocab_size, hp.hidden_size), required=not hp.tied_embeddings)

    def tensors(self) -> list[OutputTensor]:
        """Return the GGUF's tensors; where they are tied, the output matrix must be the embedding."""
        result = super().tensors()
        if self.hp.tied_embeddings and not self._head_is_embedding:
            raise self.fail(
                "config.json ties the output matrix to the embedding, but lm_head.weight is another"
            )
        return result

    @cached_property
    def _head_is_embedding(self) -> bool:
        head = self.stored.get("lm_head.weight")
        if head is None:
            return True
        embedding = self.stored["model.embed_tokens.weight"]
        # Bit for bit, so that values that are no numbers are no difference.
        first, second = head.map().view(np.uint8), embedding.map().view(np.uint8)
        return head.dtype == embedding.dtype and np.array_equal(first, second)

    def block(self, prefix: str, layer: int) -> Iterator[TensorSpec]:
        """Yield the tensors of one block."""
        hidden = (self.hp.hidden_size,)
        yield TensorSpec(f"{prefix}.input_layernorm.weight", hidden)
        yield from self.attention(f"{prefix}.self_attn")
        yield TensorSpec(f"{prefix}.post_attention_layernorm.weight", hidden)
        yield from self.feed_forward(f"{prefix}.mlp", layer)

    def attention(self, prefix: str) -> Iterator[TensorSpec]:
        """Yield the projections and the norms between them."""
        hp = self.hp
        wide = hp.heads * hp.head_dim
        for part, heads in (("q", hp.heads), ("k", hp.kv_heads), ("v", hp.kv_heads)):
            name, rows = f"{prefix}.{part}_proj", heads * hp.head_dim
            arrange = partial(pair_rows, heads=heads) if self.pairs_rows and part != "v" else None
            yield TensorSpec(f"{name}.weight", (rows, hp.hidden_size), arrange=arrange, by_rows=True)
            if self.attention_bias is not False:
                yield TensorSpec(f"{name}.bias", (rows,), self.attention_bias is True, arrange=arrange)
            if self.qk_norm and part != "v":
                yield TensorSpec(f"{prefix}.{part}_norm.weight", (hp.head_dim,))
        yield TensorSpec(f"{prefix}.o_proj.weight", (hp.hidden_size, wide))
        if self.attention_bias is None:
            yield TensorSpec(f"{prefix}.o_proj.bias", (hp.hidden_size,), required=False)

    def feed_forward(self, prefix: str, layer: int) -> Iterator[TensorSpec]:
        """Yield the gated feed-forward network."""
        hp = self.hp
        yield TensorSpec(f"{prefix}.gate_proj.weight", (hp.intermediate_size, hp.hidden_size))
        yield TensorSpec(f"{prefix}.up_proj.weight", (hp.intermediate_size, hp.hidden_size))
        yield TensorSpec(f"{prefix}.down_proj.weight", (hp.hidden_size, hp.intermediate_size))

    def write_parameters(self, writer: gguf.GGUFWriter, file_type: int) -> None:
        """Add the architecture's keys, those of upstream's converter."""
        hp = self.hp
        writer.add_block_count(hp.layers)
        writer.add_context_length(hp.context_length)
        writer.add_embedding_length(hp.hidden_size)
        writer.add_feed_forward_length(hp.intermediate_size)
        writer.add_head_count(hp.heads)
        writer.add_head_count_kv(hp.kv_heads)
        self.write_rope(writer)
        writer.add_layer_norm_rms_eps(hp.rms_eps)
        if self.writes_head_dim():
            writer.add_key_length(hp.head_dim)
            writer.add_value_length(hp.head_dim)
        writer.add_file_type(file_type)

    def writes_head_dim(self) -> bool:
        """Return whether the head size is stated rather than derived by llama.cpp."""
        return self.defaults.head_dim is not None or self.config.values.get("head_dim") is not None

    def write_rope(self, writer: gguf.GGUFWriter) -> None:
        """Add rotary embedding's base and scaling."""
        rope, scaling = self.hp.rope, self.hp.rope.scaling
        if rope.kind in ("linear", "yarn"):
            writer.add_rope_scaling_type(gguf.RopeScalingType(rope.kind))
            writer.add_rope_scaling_factor(scaling.number("factor", 1.0))
        if rope.kind == "longrope":
            writer.add_rope_scaling_type(gguf.RopeScalingType.LONGROPE)
        if rope.kind == "yarn":
            writer.add_rope_scaling_orig_ctx_len(scaling.integer("original_max_position_embeddings"))
            for key, add in (
                ("extrapolation_factor", writer.add_rope_scaling_yarn_ext_factor),
                ("attention_factor", writer.add_rope_scaling_yarn_attn_factor),
                ("beta_fast", writer.add_rope_scaling_yarn_beta_fast),
                ("beta_slow", writer.add_rope_scaling_yarn_beta_slow),
            ):
                if (value := scaling.optional_number(key)) is not None:
                    add(value)
        if rope.theta is not None:
            writer.add_rope_freq_base(rope.theta)

    def long_rope_tensors(self, size: int) -> list[OutputTensor]:
        """Return longrope's factors for the ``size`` rotated rows of a head, none where it is not used.

        Raises:
            BadCheckpoint: they are not two lists of half as many numbers.
        """
        scaling = self.hp.rope.scaling
        if not scaling.values.get("long_factor") and not scaling.values.get("short_factor"):
            return []
        result = []
        for kind in ("long", "short"):
            factors = np.array(scaling.numbers(f"{kind}_factor", size // 2), dtype=np.float32)
            result.append(OutputTensor(f"rope_factors_{kind}.weight", factors.shape, (factors.copy,)))
        return result


def pair_rows(stored: Array, heads: int) -> Array:
    """Put together the rows that rotary embedding turns together.

    transformers rotates row i of a head with row i + d/2, llama.cpp's "norm" rope row 2i with row 2i + 1.
    """
    half = stored.shape[0] // heads // 2
    rows = stored.reshape(heads, 2, half, *stored.shape[1:])
    return np.ascontiguousarray(rows.swapaxes(1, 2)).reshape(stored.shape)
