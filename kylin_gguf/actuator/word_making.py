"""Makes a table of words' vectors of a model's file.

Of the model's tokens those are kept that are Chinese or lower-case letters. What is rare in a catalogue's
examples weighs more, and the axes are those along which these differ most: the table is short, and says what
tells commands apart. Takes some seconds.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from kylin_gguf.actuator.ridge import Vector
from kylin_gguf.actuator.word_vectors import LONGEST, PIECE, Pieces, WordVectors, pack
from kylin_gguf.gguf_info.token_table import TokenTable

AXES = 128
_SAMPLE = 2000
"""Examples that the axes are taken from."""
_LARGEST = 1e4
_MAX_TOKENS = 1 << 19
"""Of a vocabulary; those of the largest models have half as many."""


def make(model: Path, texts: Sequence[str]) -> WordVectors | None:
    """Return the table for such normalised ``texts`` as a catalogue's examples.

    Returns:
        None if the model knows none of their words.

    Raises:
        FileMissing, NotGguf, TruncatedGguf, UnsupportedModel: ``model`` is not a file that has vectors.
    """
    table = TokenTable.find(model)
    numbers = _usable(table)
    pieces = Pieces(list(numbers))
    found = [taken for text in texts if (taken := list(pieces.find(text)))]
    if not found:
        return None
    rows = _Rows(table, list(numbers.values()), _rarities(found, len(pieces)))
    axes = rows.axes(found[:: -(-len(found) // _SAMPLE)])
    packed, scales = zip(*(pack(some @ axes) for _, some in rows), strict=True)
    return WordVectors(pieces, np.concatenate(packed), np.concatenate(scales))


class _Rows:
    """The vectors of pieces around their mean, as long as a piece is rare. They are read in slices: all of
    them would be as large as the model's table, four times over."""

    def __init__(self, table: TokenTable, numbers: Sequence[int], weights: Vector) -> None:
        self._table, self._numbers, self._weights = table, numbers, weights
        total = np.zeros(table.width, np.float64)
        for _, rows in table.vectors(numbers):
            total += _finite(rows).sum(axis=0)
        self._mean = (total / len(numbers)).astype(np.float32)

    def __iter__(self) -> Iterator[tuple[slice, Vector]]:
        for some, rows in self._table.vectors(self._numbers):
            yield some, _unit(_finite(rows) - self._mean) * self._weights[some, None]

    def axes(self, texts: Sequence[Sequence[int]]) -> Vector:
        """Return the AXES principal axes of ``texts``, which are numbers of pieces, as columns."""
        sums = np.zeros((len(texts), self._table.width), np.float32)
        whose = np.repeat(np.arange(len(texts)), [len(taken) for taken in texts])
        which = np.concatenate([np.asarray(taken) for taken in texts])
        for some, rows in self:
            here = (which >= some.start) & (which < some.stop)
            np.add.at(sums, whose[here], rows[which[here] - some.start])
        sums = _unit(sums)
        sums -= sums.mean(axis=0)
        axes: Vector = np.linalg.svd(sums, full_matrices=False)[2][:AXES].T
        return np.pad(axes, ((0, 0), (0, axes.shape[1] % 2)))


def _usable(table: TokenTable) -> dict[str, int]:
    """Return the text of each token that is one piece, in order of their numbers, which come with it."""
    plain = _of_bytes if table.info.tokenizer_model == "gpt2" else _of_text
    usable: dict[str, int] = {}
    for number, token in enumerate(itertools.islice(table.tokens(), _MAX_TOKENS)):
        text = plain(token)
        if len(text) <= LONGEST and PIECE.fullmatch(text):
            usable.setdefault(text, number)
    return usable


def _of_text(token: bytes) -> str:
    """Return the text of a token of SentencePiece, which writes a space as a character of its own."""
    return token.decode(errors="replace").replace("\N{LOWER ONE EIGHTH BLOCK}", " ")


def _of_bytes(token: bytes) -> str:
    """Return the text of a token of byte-level BPE, which is written with a character for each byte
    (Radford et al. 2019); empty if it is no whole text."""
    try:
        return bytes(_BYTES[character] for character in token.decode()).decode()
    except (KeyError, UnicodeDecodeError):
        return ""


def _bytes() -> dict[str, int]:
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in shown]
    return {chr(byte): byte for byte in shown} | {chr(0x100 + i): byte for i, byte in enumerate(others)}


_BYTES = _bytes()


def _rarities(texts: Sequence[Sequence[int]], count: int) -> Vector:
    """Return how rare each of ``count`` pieces is in ``texts`` of such, shape (count,)."""
    having = Counter(number for taken in texts for number in set(taken))
    weights = [np.log(len(texts) / max(having[number], 1)) for number in range(count)]
    return np.array(weights, np.float32)


def _finite(rows: Vector) -> Vector:
    """Return ``rows`` as numbers whose squares can be added up, whatever the file has."""
    return np.clip(np.nan_to_num(rows), -_LARGEST, _LARGEST)


def _unit(rows: Vector) -> Vector:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: Vector = rows / np.maximum(lengths, np.float32(1e-6))
    return unit
