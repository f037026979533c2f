"""What a model's file says of its tokens: how each is written, and the vector that it begins with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from gguf.constants import GGMLQuantizationType
from gguf.quants import dequantize
from numpy.typing import NDArray

from kylin_gguf.errors import FileMissing, NotGguf, TruncatedGguf, UnsupportedModel
from kylin_gguf.gguf_info import header, shards
from kylin_gguf.gguf_info.cursor import Cursor
from kylin_gguf.gguf_info.records import GgufInfo, Skipped, TensorInfo

_TOKENS: Final = "tokenizer.ggml.tokens"
_VECTORS: Final = "token_embd.weight"
_ROWS: Final = 2048
_MAX_WIDTH: Final = 1 << 14
_MAX_TOKEN_BYTES: Final = 1 << 16


@dataclass(frozen=True)
class TokenTable:
    """Where the tokens and the vectors of a model are. Nothing of either is kept."""

    info: GgufInfo
    holder: Path
    """The file, of those of the model, that has the vectors."""
    tensor: TensorInfo

    @classmethod
    def find(cls, path: Path) -> TokenTable:
        """Return the table of the model that ``path`` is the file, or the first file, of.

        Raises:
            FileMissing: a file cannot be read.
            NotGguf, TruncatedGguf: it is malformed, or has no tokens, no vectors, or not one for each.
        """
        info = header.read(path)
        for part in shards.files(path):
            for tensor in header.read(part).tensors:
                if tensor.name == _VECTORS:
                    return cls(info, part, tensor)._checked()
        raise NotGguf(str(path), f"it has no tensor '{_VECTORS}'")

    def _checked(self) -> TokenTable:
        width, rows, *others = (*self.tensor.shape, 0, 0)
        count = self.info.vocab_size
        if any(others) or not 0 < width <= _MAX_WIDTH or not 0 < count <= rows:
            reason = f"'{_VECTORS}' of the shape {self.tensor.shape} for {count} tokens"
            raise NotGguf(str(self.holder), reason)
        return self

    @property
    def width(self) -> int:
        """Numbers in a vector."""
        return self.tensor.shape[0]

    def tokens(self) -> Iterator[bytes]:
        """Yield how each token is written, in the vocabulary's own way, in order of their numbers.

        Raises:
            FileMissing, NotGguf, TruncatedGguf: as ``find``.
        """
        kept = self.info.metadata.get(_TOKENS)
        if isinstance(kept, tuple):
            yield from (str(token).encode() for token in kept)
        elif isinstance(kept, Skipped) and kept.type_name == "string":
            yield from self._walk(kept)
        else:
            raise NotGguf(str(self.info.path), f"'{_TOKENS}' is no list of texts")

    def _walk(self, kept: Skipped) -> Iterator[bytes]:
        path = self.info.path
        try:
            with path.open("rb") as file:
                cursor = Cursor(file, str(path), self.info.file_size)
                cursor.skip(kept.offset)
                for _ in range(kept.length):
                    yield cursor.take(cursor.string_length(_MAX_TOKEN_BYTES, "a token"))
        except OSError as error:
            raise FileMissing(str(path), error.strerror or str(error)) from error

    def vectors(self, numbers: Sequence[int]) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Yield the vectors of the tokens ``numbers``, which ascend: a slice of those and the rows for it,
        some thousand at a time.

        Raises:
            FileMissing, TruncatedGguf: as ``find``.
            UnsupportedModel: only llama.cpp knows how they are quantised.
        """
        wanted = np.asarray(numbers, np.int64)
        row_bytes = self.tensor.nbytes // self.tensor.shape[1]
        for first in range(0, len(wanted), _ROWS):
            here = wanted[first : first + _ROWS]
            raw = self._read(int(here[0]), int(here[-1]) + 1, row_bytes)
            yield slice(first, first + len(here)), self._numbers(raw[here - here[0]])

    def _numbers(self, rows: NDArray[np.uint8]) -> NDArray[np.float32]:
        kind = self.tensor.type_name
        try:
            numbers = dequantize(rows, GGMLQuantizationType[kind])
        except (KeyError, NotImplementedError) as error:
            raise UnsupportedModel(str(self.holder), f"vectors of tokens in {kind}") from error
        wide: NDArray[np.float32] = numbers.astype(np.float32, copy=False)
        return wide

    def _read(self, first: int, last: int, row_bytes: int) -> NDArray[np.uint8]:
        # Not mapped into memory: whoever cuts the file off meanwhile would end this process.
        offset, count = self.tensor.offset + first * row_bytes, (last - first) * row_bytes
        try:
            raw = np.fromfile(self.holder, np.uint8, count, offset=offset)
        except OSError as error:
            raise FileMissing(str(self.holder), error.strerror or str(error)) from error
        if len(raw) < count:
            raise TruncatedGguf(str(self.holder), offset + count, offset + len(raw))
        return raw.reshape(last - first, row_bytes)
