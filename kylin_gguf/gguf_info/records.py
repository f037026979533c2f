"""What a GGUF header says, as records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Skipped:
    """A metadata value that is there but too long to keep: a vocabulary, an embedded tokenizer.

    ``length`` counts elements, or bytes for a string; ``offset`` is where they begin, in bytes from the start
    of the file.
    """

    type_name: str
    length: int
    offset: int = field(default=0, compare=False)


Scalar = bool | int | float | str
MetadataValue = Scalar | tuple[Scalar, ...] | Skipped

_POOLINGS = {1: "mean", 2: "cls", 3: "last", 4: "rank"}  # enum llama_pooling_type
_EMBEDDING_POOLINGS = ("mean", "cls", "last")

# llama_model::create_memory returns none for these.
_WITHOUT_CACHE = frozenset(
    (
        *("bert", "jina-bert-v2", "jina-bert-v3", "nomic-bert", "nomic-bert-moe", "neo-bert", "eurobert"),
        *("modern-bert", "gemma-embedding", "wavtokenizer-dec", "dream", "llada", "llada-moe", "rnd1"),
    )
)


def has_cache(architecture: str) -> bool:
    """Return whether models of this architecture have a KV cache, without which none generates."""
    return architecture not in _WITHOUT_CACHE


@dataclass(frozen=True)
class TensorInfo:
    """One tensor. ``shape`` is in ggml's order, the contiguous dimension first.

    ``offset`` is the position of its ``nbytes`` bytes from the start of the file.
    """

    name: str
    shape: tuple[int, ...]
    type_name: str
    nbytes: int
    offset: int


@dataclass(frozen=True)
class GgufInfo:
    """What a GGUF header says. Numbers the file does not state are 0, texts empty, token ids None.

    ``kind`` is general.type: ``model``, ``adapter``, ``mmproj``, ``imatrix``. ``head_count_kv`` has one
    value for all layers or one for each.
    """

    path: Path
    file_size: int
    version: int
    kind: str
    architecture: str
    name: str
    size_label: str
    file_type: str
    parameters: int
    layers: int
    embedding_length: int
    context_length: int
    head_count: int
    head_count_kv: tuple[int, ...]
    vocab_size: int
    chat_template: str
    tokenizer_model: str
    tokenizer_pre: str
    bos_id: int | None
    eos_id: int | None
    licence: str
    languages: tuple[str, ...]
    tensors: tuple[TensorInfo, ...]
    metadata: Mapping[str, MetadataValue]

    @property
    def has_chat_template(self) -> bool:
        """Whether the file says how a conversation is written as a prompt."""
        return bool(self.chat_template)

    @property
    def pooling(self) -> str:
        """How the vectors of a text's tokens become one: ``mean``, ``cls``, ``last``; or ``rank``, which
        gives a score. Empty where the file states none, as for a model that generates."""
        kind = self.own("pooling_type")
        return _POOLINGS.get(kind, "") if isinstance(kind, int) and not isinstance(kind, bool) else ""

    @property
    def embeds(self) -> bool:
        """Whether the model makes vectors of texts, instead of generating."""
        return self.pooling in _EMBEDDING_POOLINGS

    @property
    def projects(self) -> bool:
        """Whether the file holds a projector, what makes images or sound a model's input, and not the model.
        The converters that llama.cpp calls legacy state only the architecture."""
        return self.kind == "mmproj" or self.architecture == "clip"

    @property
    def has_cache(self) -> bool:
        """Whether the model has a KV cache: an encoder sees a text whole, once."""
        return has_cache(self.architecture)

    @property
    def tensor_bytes(self) -> int:
        """Bytes of all tensors, without padding."""
        return sum(tensor.nbytes for tensor in self.tensors)

    @property
    def bits_per_weight(self) -> float:
        """Stored bits for each parameter, over all tensors; 0 for a file without tensors."""
        return 8 * self.tensor_bytes / self.parameters if self.parameters else 0.0

    def own(self, key: str) -> MetadataValue | None:
        """Return the architecture's own value, such as ``attention.key_length``, or None."""
        return self.metadata.get(f"{self.architecture}.{key}")
