"""SentencePiece's Unigram as XLM-RoBERTa has it, GGUF's tokenizer model ``t5``."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from pathlib import Path

from kylin_convert.vocab import sentencepiece
from kylin_convert.vocab.fast import FastTokenizer
from kylin_convert.vocab.table import TokenTable, TokenType
from kylin_gguf.errors import BadCheckpoint

FILE = "sentencepiece.bpe.model"

_UNUSED_SCORE = -10_000.0
# fairseq's order of the first four, which is not the file's.
_FIRST = (("<s>", 3), ("<pad>", 3), ("</s>", 3), ("<unk>", 2))
_FILE_FIRST = 3


@dataclass(frozen=True)
class Unigram:
    """The token table, and how a text is made ready for it: SentencePiece's compiled table of replacements,
    whether a space is put before it, and whether runs of spaces become one."""

    table: TokenTable
    charsmap: bytes
    space_prefix: bool
    squeezes: bool


def read(folder: Path, vocab_size: int) -> Unigram:
    """Read ``sentencepiece.bpe.model`` where there is one, else ``tokenizer.json``.

    Raises:
        BadCheckpoint: neither is there, or it is malformed or of another algorithm.
    """
    path = folder / FILE
    return _from_model(path, vocab_size) if path.is_file() else _from_json(folder, vocab_size)


def _from_model(path: Path, vocab_size: int) -> Unigram:
    spec = sentencepiece.read_spec(path)
    if not spec.is_unigram:
        raise BadCheckpoint(str(path), "it is not a Unigram model")
    pieces = list(sentencepiece.read_pieces(path))
    size = max(vocab_size, len(pieces))
    table = TokenTable.padded("t5", "default", size, score=_UNUSED_SCORE)
    for i, (text, score, kind) in enumerate(pieces):
        table.tokens[i], table.scores[i], table.types[i] = text, score, kind
    # Upstream moves the file's pieces up by one place, over the four that fairseq has in front.
    table.tokens = [text for text, _ in _FIRST] + table.tokens[_FILE_FIRST:-1]
    table.types = [kind for _, kind in _FIRST] + table.types[_FILE_FIRST:-1]
    table.scores = [0.0] * len(_FIRST) + table.scores[_FILE_FIRST:-1]
    return Unigram(table, spec.charsmap, spec.space_prefix, spec.squeezes)


def _from_json(folder: Path, vocab_size: int) -> Unigram:
    fast = FastTokenizer.load(folder, "Unigram")
    model = fast.content["model"]
    pieces = model["vocab"]
    try:
        charsmap = base64.b64decode(fast.content["normalizer"]["precompiled_charsmap"])
    except (KeyError, TypeError, binascii.Error) as error:
        raise BadCheckpoint(str(fast.path), "its normaliser is not SentencePiece's") from error
    unknown = fast.tokenizer.token_to_id(fast.settings.get("unk_token") or "<unk>")
    table = TokenTable.padded("t5", "default", max(vocab_size, len(pieces)), score=_UNUSED_SCORE)
    for i, (text, score) in enumerate(pieces):
        table.tokens[i], table.scores[i], table.types[i] = text, float(score), TokenType.NORMAL
        if i == unknown:
            table.types[i] = TokenType.UNKNOWN
        elif i in fast.flags:
            special = bool(fast.flags[i].get("special"))
            table.types[i] = TokenType.CONTROL if special else TokenType.USER_DEFINED
    prefix = bool(fast.settings.get("add_prefix_space", True))
    return Unigram(table, charsmap, prefix, bool(fast.settings.get("clean_up_tokenization_spaces", False)))
