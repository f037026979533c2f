"""SentencePiece from ``tokenizer.model``, GGUF's tokenizer model ``llama``.

The file is a protocol buffer of which three fields are needed, so it is read here rather than by adding the
SentencePiece library. Schema: sentencepiece_model.proto; wire format: https://protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kylin_convert.checkpoint import read_json
from kylin_convert.vocab.table import TokenTable, TokenType, added_token
from kylin_gguf.errors import BadCheckpoint

FILE = "tokenizer.model"

_PIECES, _TRAINER, _NORMALIZER = 1, 2, 3  # fields of ModelProto
_MODEL_TYPE, _UNIGRAM = 3, 1  # field of TrainerSpec, and its default
_CHARSMAP, _DUMMY_PREFIX, _SQUEEZES = 2, 3, 4  # fields of NormalizerSpec
_TEXT, _SCORE, _TYPE = 1, 2, 3  # fields of SentencePiece
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types
_MAX_VARINT_BITS = 64
# SentencePiece's Type has GGUF's numbers, but upstream stores user-defined pieces as normal ones.
_TYPES = {
    1: TokenType.NORMAL,
    2: TokenType.UNKNOWN,
    3: TokenType.CONTROL,
    4: TokenType.NORMAL,
    5: TokenType.UNUSED,
    6: TokenType.BYTE,
}
_ADDED_SCORE = -1000.0
_UNUSED_SCORE = -10000.0

Piece = tuple[str, float, int]


@dataclass(frozen=True)
class Spec:
    """What the model says beside its pieces: the algorithm, and how text is made ready for it."""

    is_unigram: bool
    charsmap: bytes
    space_prefix: bool
    squeezes: bool


def read(folder: Path, vocab_size: int) -> TokenTable:
    """Return the token table with scores, added tokens included.

    Raises:
        BadCheckpoint: tokenizer.model is not a SentencePiece model, or a JSON file beside it is malformed.
    """
    path = folder / FILE
    table = TokenTable.padded("llama", "default", vocab_size, score=_UNUSED_SCORE)
    # Published checkpoints do name tokens beyond the embedding's last row; no text can produce those.
    for i, (text, score, kind) in zip(range(vocab_size), read_pieces(path), strict=False):
        table.tokens[i], table.scores[i], table.types[i] = text, score, kind
    for i, text, kind in _added(folder):
        if 0 <= i < vocab_size:
            table.tokens[i], table.scores[i], table.types[i] = text, _ADDED_SCORE, kind
    return table


def _added(folder: Path) -> Iterator[tuple[int, str, int]]:
    if (path := folder / "added_tokens.json").is_file():
        for text, i in read_json(path).items():
            yield i, text, TokenType.USER_DEFINED
    if (path := folder / "tokenizer_config.json").is_file():
        for key, entry in (read_json(path).get("added_tokens_decoder") or {}).items():
            yield (int(key), *added_token(entry["content"], bool(entry.get("special"))))


def read_pieces(path: Path) -> Iterator[Piece]:
    """Yield text, score and GGUF token type of each piece, in id order.

    Raises:
        BadCheckpoint: not a SentencePiece model.
    """
    try:
        found = False
        for number, value in _fields(path.read_bytes()):
            if number == _PIECES and isinstance(value, bytes):
                found = True
                yield _piece(value)
        if not found:
            raise ValueError("no pieces")
    except (ValueError, KeyError, IndexError, struct.error) as error:
        raise BadCheckpoint(str(path), f"it is not a SentencePiece model ({error})") from error


def read_spec(path: Path) -> Spec:
    """Return the specifications of trainer and normaliser, with SentencePiece's defaults.

    Raises:
        BadCheckpoint: not a SentencePiece model.
    """
    try:
        fields = dict(_fields(path.read_bytes()))
        trainer, normalizer = (dict(_fields(_bytes(fields.get(key, b"")))) for key in (_TRAINER, _NORMALIZER))
    except (ValueError, IndexError) as error:
        raise BadCheckpoint(str(path), f"it is not a SentencePiece model ({error})") from error
    return Spec(
        is_unigram=trainer.get(_MODEL_TYPE, _UNIGRAM) == _UNIGRAM,
        charsmap=_bytes(normalizer.get(_CHARSMAP, b"")),
        space_prefix=bool(normalizer.get(_DUMMY_PREFIX, 1)),
        squeezes=bool(normalizer.get(_SQUEEZES, 1)),
    )


def _bytes(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError("a number where a message should be")
    return value


def _piece(message: bytes) -> Piece:
    text, score, kind = "", 0.0, 1
    for number, value in _fields(message):
        if number == _TEXT and isinstance(value, bytes):
            text = value.decode("utf-8")
        elif number == _SCORE and isinstance(value, bytes):
            (score,) = struct.unpack("<f", value)
        elif number == _TYPE and isinstance(value, int):
            kind = value
    return text, score, _TYPES[kind]


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, position = _varint(message, position)
            yield number, value
            continue
        if wire == _BYTES:
            length, position = _varint(message, position)
        elif wire in (_FIXED32, _FIXED64):
            length = 4 if wire == _FIXED32 else 8
        else:
            raise ValueError(f"wire type {wire}")
        if position + length > len(message):
            raise ValueError("truncated")
        yield number, message[position : position + length]
        position += length


def _varint(message: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, _MAX_VARINT_BITS, 7):
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004 - the wire format's continuation bit
            return value, position
    raise ValueError("varint too long")
