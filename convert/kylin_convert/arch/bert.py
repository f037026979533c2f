"""BertModel and BertForMaskedLM: bge, m3e, MiniLM, gte and other embedders."""

from __future__ import annotations

from collections.abc import Iterator

import gguf

from kylin_convert.arch.base import Family, TensorSpec
from kylin_convert.arch.pooling import write_pooling
from kylin_convert.checkpoint import Checkpoint
from kylin_convert.hyperparameters import MAX_LAYERS
from kylin_convert.vocab import Vocabulary, read_wordpiece

# Heads for the training tasks, and buffers.
_UNUSED = ("pooler.", "cls.predictions", "cls.seq_relationship", "embeddings.position_ids")
_OLD_NAMES = {".gamma": ".weight", ".beta": ".bias"}


class Bert(Family):
    """The encoder of 2018: positions are learnt, norms come after each part, everything has a bias."""

    arch = gguf.MODEL_ARCH.BERT

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        config = self.config
        self.hidden_size = config.integer("hidden_size", 768)
        self.intermediate_size = config.integer("intermediate_size", 3072)
        self.heads = config.integer("num_attention_heads", 12)
        self.positions = config.integer("max_position_embeddings", 512)
        self.type_count = config.integer("type_vocab_size", 2)
        self._layers = config.integer("num_hidden_layers", 12, limit=MAX_LAYERS)
        self._vocab_size = config.integer("vocab_size", 30_522)
        if self.hidden_size % self.heads:
            raise config.fail("hidden_size", f"is not a multiple of {self.heads} attention heads")
        # llama.cpp's graph has these two built in.
        for key, expected in (("hidden_act", "gelu"), ("position_embedding_type", "absolute")):
            if config.values.get(key, expected) != expected:
                raise config.fail(key, f"is not {expected}")

    @property
    def layers(self) -> int:
        """Number of blocks."""
        return self._layers

    @property
    def vocab_size(self) -> int:
        """Rows of the embedding."""
        return self._vocab_size

    @property
    def context_length(self) -> int:
        """Positions that a text may take."""
        return self.positions

    def rename(self, name: str) -> str | None:
        """Return ``name`` in the form of newer checkpoints, None for what only training needs."""
        name = name.removeprefix("bert.")
        for old, new in _OLD_NAMES.items():
            if name.endswith(old):
                name = name.removesuffix(old) + new
        return None if name.startswith(_UNUSED) else super().rename(name)

    def specs(self) -> Iterator[TensorSpec]:
        """Yield the three embeddings, their norm and the blocks."""
        hidden = self.hidden_size
        yield TensorSpec("embeddings.word_embeddings.weight", (self.vocab_size, hidden))
        yield self.position_spec()
        yield TensorSpec("embeddings.token_type_embeddings.weight", (self.type_count, hidden))
        yield from both("embeddings.LayerNorm", hidden)
        for layer in range(self.layers):
            yield from self._block(f"encoder.layer.{layer}")

    def position_spec(self) -> TensorSpec:
        """Return the spec of the positions' embedding."""
        return TensorSpec("embeddings.position_embeddings.weight", (self.positions, self.hidden_size))

    def _block(self, prefix: str) -> Iterator[TensorSpec]:
        hidden, wide = self.hidden_size, self.intermediate_size
        for part in ("query", "key", "value"):
            yield from both(f"{prefix}.attention.self.{part}", hidden, hidden)
        yield from both(f"{prefix}.attention.output.dense", hidden, hidden)
        yield from both(f"{prefix}.attention.output.LayerNorm", hidden)
        yield from both(f"{prefix}.intermediate.dense", wide, hidden)
        yield from both(f"{prefix}.output.dense", hidden, wide)
        yield from both(f"{prefix}.output.LayerNorm", hidden)

    def vocabulary(self) -> Vocabulary:
        """Return the WordPiece vocabulary."""
        return read_wordpiece(self.checkpoint.folder, self.vocab_size)

    def write_parameters(self, writer: gguf.GGUFWriter, file_type: int) -> None:
        """Add the architecture's keys, those of upstream's converter."""
        writer.add_block_count(self.layers)
        writer.add_context_length(self.context_length)
        writer.add_embedding_length(self.hidden_size)
        writer.add_feed_forward_length(self.intermediate_size)
        writer.add_head_count(self.heads)
        writer.add_layer_norm_eps(self.config.number("layer_norm_eps", 1e-12))
        writer.add_file_type(file_type)
        writer.add_causal_attention(False)
        writer.add_token_type_count(self.type_count)
        write_pooling(self.checkpoint.folder, writer)


def both(prefix: str, *shape: int) -> Iterator[TensorSpec]:
    """Yield a weight of ``shape`` and a bias for each of its rows."""
    yield TensorSpec(f"{prefix}.weight", shape)
    yield TensorSpec(f"{prefix}.bias", shape[:1])
