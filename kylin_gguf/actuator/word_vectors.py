"""What words mean, without asking a model: pieces of text have vectors, and what is alike has vectors alike.

The first thing that a language model does is to look its input up in a table of vectors. ``word_making``
takes those of the pieces of Chinese and English out of a model's file. Their sum says less of a sentence than
the model would, in some ten microseconds.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from kylin_gguf.actuator.ridge import Vector

PIECE = re.compile(r"[㐀-鿿]+| ?[a-z]+")
LONGEST = 16
"""Characters of a piece."""

_RUN = re.compile(r"[㐀-鿿]+|[a-z]+")
_MIDDLE = 8
"""What stands for 0 in the table's 4 bits."""


class Pieces:
    """The pieces that a text is taken apart into: of Chinese, of the beginning of a word with a space before
    it, of the rest of one."""

    def __init__(self, pieces: Sequence[str]) -> None:
        self._numbers = {piece: number for number, piece in enumerate(pieces)}

    def __len__(self) -> int:
        return len(self._numbers)

    def __iter__(self) -> Iterator[str]:
        return iter(self._numbers)

    def find(self, text: str) -> Iterator[int]:
        """Yield the numbers of the pieces of normalised ``text``: from the left the longest there is."""
        for run in _RUN.findall(text):
            rest = run if run[0] > "z" else f" {run}"
            while rest:
                length = self._longest(rest)
                if length:
                    yield self._numbers[rest[:length]]
                rest = rest[max(length, 1) :]

    def _longest(self, text: str) -> int:
        lengths = range(min(len(text), LONGEST), 0, -1)
        return next((length for length in lengths if text[:length] in self._numbers), 0)


class WordVectors:
    """The vectors of pieces, 4 bits a number. Immutable."""

    def __init__(self, pieces: Pieces, packed: NDArray[np.uint8], scales: NDArray[np.float16]) -> None:
        """``packed``, shape (pieces, axes / 2), has two numbers a byte, the first one in the low bits;
        ``scales``, shape (pieces,), what those of each piece are multiplied with.

        Raises:
            ValueError: the shapes do not fit.
        """
        count, axes = len(pieces), packed.size // max(len(pieces), 1)
        if packed.shape != (count, axes) or scales.shape != (count,):
            raise ValueError(f"{len(pieces)} pieces, vectors {packed.shape}, {len(scales)} scales")
        self._pieces, self._packed, self._scales = pieces, packed, scales
        self.axes: int = 2 * packed.shape[1]
        self.digest = hashlib.blake2b(packed.tobytes() + scales.tobytes(), digest_size=16).hexdigest()
        """Changes with the table."""

    def of(self, text: str) -> Vector:
        """Return the sum of the vectors of normalised ``text``'s pieces, shape (axes,), brought to the length
        1; 0 where none of it is known."""
        numbers = list(self._pieces.find(text))
        packed = self._packed[numbers]
        rows = np.stack([packed & 15, packed >> 4], axis=2).reshape(len(numbers), self.axes)
        total = np.einsum(
            "i,ij->j", self._scales[numbers].astype(np.float32), rows.astype(np.float32) - _MIDDLE
        )
        vector: Vector = total / max(float(np.linalg.norm(total)), 1e-6)
        return vector

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return what ``from_arrays`` takes."""
        pieces = np.frombuffer("\n".join(self._pieces).encode(), np.uint8)
        return {"pieces": pieces, "packed": self._packed, "scales": self._scales}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]]) -> WordVectors:
        """Return the table that ``arrays`` was made of.

        Raises:
            KeyError, ValueError: ``arrays`` is something else.
        """
        pieces = Pieces(arrays["pieces"].astype(np.uint8).tobytes().decode().split("\n"))
        return cls(pieces, arrays["packed"].astype(np.uint8), arrays["scales"].astype(np.float16))


def pack(rows: Vector) -> tuple[NDArray[np.uint8], NDArray[np.float16]]:
    """Return ``rows``, shape (n, an even number), as ``WordVectors`` takes them."""
    scales = np.maximum(np.abs(rows).max(axis=1) / (_MIDDLE - 1), 1e-4).astype(np.float16)
    levels = np.rint(rows / scales.astype(np.float32)[:, None]) + _MIDDLE
    numbers = np.clip(levels, 0, 2 * _MIDDLE - 1).astype(np.uint8)
    return numbers[:, 0::2] | numbers[:, 1::2] << 4, scales
