"""XLMRobertaModel: bge-m3, multilingual-e5, gte-multilingual's older siblings."""

from __future__ import annotations

from kylin_convert.arch.base import TensorSpec
from kylin_convert.arch.bert import Bert
from kylin_convert.checkpoint import Checkpoint
from kylin_convert.safetensors import Array
from kylin_convert.vocab import Vocabulary, read_unigram


class XlmRoberta(Bert):
    """BERT whose positions start after the padding token's, with SentencePiece's Unigram vocabulary."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        padding = self.config.values.get("pad_token_id", 1)
        if type(padding) is not int or not 0 <= padding < self.positions - 1:
            raise self.config.fail("pad_token_id", f"is {padding!r}, not the number of a position")
        self.unused_positions = padding + 1

    @classmethod
    def reads(cls, checkpoint: Checkpoint) -> bool:
        """Return False for jina-embeddings-v3, which has adapters inside."""
        return not checkpoint.config.get("lora_adaptations")

    @property
    def context_length(self) -> int:
        """Positions that a text may take."""
        return self.positions - self.unused_positions

    def rename(self, name: str) -> str | None:
        """Return ``name`` without the prefix of checkpoints made with a head."""
        return super().rename(name.removeprefix("roberta."))

    def position_spec(self) -> TensorSpec:
        """Return the spec of the positions' embedding, without the rows that no text reaches."""
        first, shape = self.unused_positions, (self.positions, self.hidden_size)

        def used(stored: Array) -> Array:
            return stored[first:]

        result = (self.context_length, self.hidden_size)
        return TensorSpec("embeddings.position_embeddings.weight", shape, arrange=used, result=result)

    def vocabulary(self) -> Vocabulary:
        """Return the Unigram vocabulary."""
        return read_unigram(self.checkpoint.folder, self.vocab_size)
