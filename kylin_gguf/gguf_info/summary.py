"""From raw metadata to GgufInfo: each key read with the type the specification gives it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from kylin_gguf.gguf_info.cursor import Cursor
from kylin_gguf.gguf_info.records import GgufInfo, MetadataValue, Skipped, TensorInfo

KEPT_STRING_BYTES: Final = 1 << 20


class _Values:
    """Metadata read with the type the specification gives each key."""

    def __init__(self, reader: Cursor, metadata: Mapping[str, MetadataValue]) -> None:
        self._reader = reader
        self._metadata = metadata

    def text(self, key: str) -> str:
        value = self._metadata.get(key, "")
        if not isinstance(value, str):
            raise self._reader.refuse(f"'{key}' is not a text of at most {KEPT_STRING_BYTES} bytes")
        return value

    def counts(self, key: str) -> tuple[int, ...]:
        """One count, or one for each layer; empty when the key is missing."""
        value = self._metadata.get(key, ())
        values = value if isinstance(value, tuple) else (value,)
        if not all(isinstance(v, int) and not isinstance(v, bool) and v >= 0 for v in values):
            raise self._reader.refuse(f"'{key}' is not a count")
        return tuple(v for v in values if isinstance(v, int))

    def count(self, key: str) -> int:
        return max(self.counts(key), default=0)

    def token(self, key: str) -> int | None:
        return self.count(key) if key in self._metadata else None

    def length(self, key: str) -> int:
        value = self._metadata.get(key)
        return value.length if isinstance(value, Skipped) else len(value) if isinstance(value, tuple) else 0

    def texts(self, key: str) -> tuple[str, ...]:
        value = self._metadata.get(key, ())
        return tuple(v for v in value if isinstance(v, str)) if isinstance(value, tuple) else ()


def _file_type(number: int) -> str:
    from gguf.constants import LlamaFileType  # noqa: PLC0415  pulls in numpy: not for 'kylin-gguf --help'

    # The pinned llama.cpp is newer than the gguf package (include/llama.h).
    known: dict[int, str] = {41: "MOSTLY_Q2_0"} | {int(kind): kind.name for kind in LlamaFileType}
    return known.get(number, f"unknown ({number})").removeprefix("MOSTLY_").removeprefix("ALL_")


def summarise(
    reader: Cursor,
    path: Path,
    version: int,
    metadata: dict[str, MetadataValue],
    tensors: tuple[TensorInfo, ...],
) -> GgufInfo:
    """Pick the figures people ask for out of ``metadata``; raises NotGguf for one of the wrong type."""
    values = _Values(reader, metadata)
    own = values.text("general.architecture") + "."
    heads = values.counts(own + "attention.head_count")
    return GgufInfo(
        path=path,
        file_size=reader.size,
        version=version,
        kind=values.text("general.type") or "model",
        architecture=values.text("general.architecture"),
        name=values.text("general.name"),
        size_label=values.text("general.size_label"),
        file_type=_file_type(values.count("general.file_type")) if "general.file_type" in metadata else "",
        parameters=sum(math.prod(tensor.shape) for tensor in tensors),
        layers=values.count(own + "block_count"),
        embedding_length=values.count(own + "embedding_length"),
        context_length=values.count(own + "context_length"),
        head_count=max(heads, default=0),
        head_count_kv=values.counts(own + "attention.head_count_kv") or heads,
        vocab_size=values.length("tokenizer.ggml.tokens") or values.count(own + "vocab_size"),
        chat_template=values.text("tokenizer.chat_template"),
        tokenizer_model=values.text("tokenizer.ggml.model"),
        tokenizer_pre=values.text("tokenizer.ggml.pre"),
        bos_id=values.token("tokenizer.ggml.bos_token_id"),
        eos_id=values.token("tokenizer.ggml.eos_token_id"),
        licence=values.text("general.license"),
        languages=values.texts("general.languages"),
        tensors=tensors,
        metadata=metadata,
    )
