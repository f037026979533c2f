"""What Llama-like families share: the tensors a checkpoint must have, and how GGUF names and orders them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import gguf

from kylin_convert.checkpoint import Checkpoint, listed
from kylin_convert.hyperparameters import Config, Hyperparameters
from kylin_convert.safetensors import Array, StoredTensor
from kylin_convert.vocab import Vocabulary, read_vocabulary
from kylin_gguf.errors import BadCheckpoint

# Buffers that old checkpoints carry and nothing reads; upstream drops the same.
_IGNORED = (".attention.masked_bias", ".attention.bias", ".rotary_emb.inv_freq")


@dataclass(frozen=True)
class TensorSpec:
    """A tensor that a checkpoint of the family has, by its transformers name.

    ``rotary_heads`` is the number of heads whose rows rotary embedding pairs up; 0 for other tensors.
    """

    name: str
    shape: tuple[int, ...]
    required: bool = True
    rotary_heads: int = 0


@dataclass(frozen=True)
class OutputTensor:
    """A tensor of the GGUF. ``load`` gives stored bits (see ``safetensors.widen``) in their final order."""

    name: str
    shape: tuple[int, ...]
    load: Callable[[], Array]


class Family:
    """Base of all families: subclasses state how theirs differs from the plain Llama block."""

    arch: ClassVar[gguf.MODEL_ARCH]
    default_context: ClassVar[int] = 32_768
    default_head_dim: ClassVar[int | None] = None
    attention_bias: ClassVar[bool | None] = None
    """Whether query, key and value have biases; None: they may."""
    qk_norm: ClassVar[bool] = False

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self.config = Config(str(checkpoint.folder), checkpoint.config)
        self.hp = Hyperparameters.parse(
            self.config, context_length=self.default_context, head_dim=self.default_head_dim
        )

    @property
    def name(self) -> str:
        """The value of ``general.architecture``."""
        return str(gguf.MODEL_ARCH_NAMES[self.arch])

    def tensors(self) -> list[OutputTensor]:
        """Return the GGUF's tensors, in the order they are written.

        Raises:
            BadCheckpoint: a tensor is missing, unknown, or has another shape than the configuration says.
        """
        stored = {n: t for n, t in self.checkpoint.tensors.items() if not n.endswith(_IGNORED)}
        specs = {spec.name: spec for spec in self._specs()}
        folder = str(self.checkpoint.folder)
        if missing := {n for n, spec in specs.items() if spec.required} - stored.keys():
            raise BadCheckpoint(folder, f"tensors are missing: {listed(missing)}")
        if unknown := stored.keys() - specs.keys():
            raise BadCheckpoint(folder, f"tensors that a {self.name} model does not have: {listed(unknown)}")
        names = gguf.get_tensor_name_map(self.arch, self.hp.layers)
        result = self.extra_tensors()
        for spec in (s for n, s in specs.items() if n in stored):
            tensor = stored[spec.name]
            if tensor.shape != spec.shape:
                reason = f"tensor {spec.name} has shape {tensor.shape}, config.json says {spec.shape}"
                raise BadCheckpoint(folder, reason)
            name = names.get_name(spec.name, try_suffixes=(".weight", ".bias"))
            result.append(OutputTensor(name, spec.shape, self._loader(tensor, spec)))
        return result

    def _loader(self, tensor: StoredTensor, spec: TensorSpec) -> Callable[[], Array]:
        return lambda: self.arrange(tensor.map(), spec)

    def arrange(self, stored: Array, spec: TensorSpec) -> Array:
        """Return ``stored`` with its rows in the order that llama.cpp expects."""
        return stored

    def extra_tensors(self) -> list[OutputTensor]:
        """Return tensors that are computed from the configuration."""
        return []

    def _specs(self) -> Iterator[TensorSpec]:
        hp = self.hp
        yield TensorSpec("model.embed_tokens.weight", (hp.vocab_size, hp.hidden_size))
        for layer in range(hp.layers):
            yield from self._block(f"model.layers.{layer}")
        yield TensorSpec("model.norm.weight", (hp.hidden_size,))
        # Without its own output matrix llama.cpp reuses the embedding, which is only right when tied.
        yield TensorSpec("lm_head.weight", (hp.vocab_size, hp.hidden_size), required=not hp.tied_embeddings)

    def _block(self, prefix: str) -> Iterator[TensorSpec]:
        hp = self.hp
        wide, narrow = hp.heads * hp.head_dim, hp.kv_heads * hp.head_dim
        yield TensorSpec(f"{prefix}.input_layernorm.weight", (hp.hidden_size,))
        for part, rows, rotary in (("q", wide, hp.heads), ("k", narrow, hp.kv_heads), ("v", narrow, 0)):
            name = f"{prefix}.self_attn.{part}_proj"
            yield TensorSpec(f"{name}.weight", (rows, hp.hidden_size), rotary_heads=rotary)
            if self.attention_bias is not False:
                yield TensorSpec(f"{name}.bias", (rows,), self.attention_bias is True, rotary)
            if self.qk_norm and rotary:
                yield TensorSpec(f"{prefix}.self_attn.{part}_norm.weight", (hp.head_dim,))
        yield TensorSpec(f"{prefix}.self_attn.o_proj.weight", (hp.hidden_size, wide))
        if self.attention_bias is None:
            yield TensorSpec(f"{prefix}.self_attn.o_proj.bias", (hp.hidden_size,), required=False)
        yield TensorSpec(f"{prefix}.post_attention_layernorm.weight", (hp.hidden_size,))
        yield TensorSpec(f"{prefix}.mlp.gate_proj.weight", (hp.intermediate_size, hp.hidden_size))
        yield TensorSpec(f"{prefix}.mlp.up_proj.weight", (hp.intermediate_size, hp.hidden_size))
        yield TensorSpec(f"{prefix}.mlp.down_proj.weight", (hp.hidden_size, hp.intermediate_size))

    def vocabulary(self) -> Vocabulary:
        """Return the tokenizer.

        Raises:
            BadCheckpoint: its files are missing or malformed, or llama.cpp cannot tokenise as it does.
        """
        return read_vocabulary(self.checkpoint.folder, self.hp.vocab_size)

    def write_parameters(self, writer: gguf.GGUFWriter, file_type: int) -> None:
        """Add the architecture's keys, those of upstream's converter."""
        hp = self.hp
        writer.add_block_count(hp.layers)
        writer.add_context_length(hp.context_length)
        writer.add_embedding_length(hp.hidden_size)
        writer.add_feed_forward_length(hp.intermediate_size)
        writer.add_head_count(hp.heads)
        writer.add_head_count_kv(hp.kv_heads)
        self._write_rope(writer)
        writer.add_layer_norm_rms_eps(hp.rms_eps)
        if self.writes_head_dim():
            writer.add_key_length(hp.head_dim)
            writer.add_value_length(hp.head_dim)
        writer.add_file_type(file_type)

    def writes_head_dim(self) -> bool:
        """Return whether the head size is stated rather than derived by llama.cpp."""
        return self.default_head_dim is not None or self.config.values.get("head_dim") is not None

    def _write_rope(self, writer: gguf.GGUFWriter) -> None:
        rope, scaling = self.hp.rope, self.hp.rope.scaling
        if rope.kind in ("linear", "yarn"):
            writer.add_rope_scaling_type(gguf.RopeScalingType(rope.kind))
            writer.add_rope_scaling_factor(scaling.number("factor", 1.0))
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
        writer.add_rope_freq_base(rope.theta)
