"""WordPiece from ``tokenizer.json``, GGUF's tokenizer model ``bert``."""

from __future__ import annotations

from pathlib import Path

from kylin_convert.vocab.fast import FastTokenizer
from kylin_convert.vocab.table import TokenTable, TokenType

_CONTINUES = "##"
_BEGINS = "\u2581"


def read(folder: Path, vocab_size: int) -> TokenTable:
    """Return the token table; what begins a word has a mark, what continues one has none.

    A pre-tokeniser that upstream does not know is no error here: upstream refuses it, but for WordPiece
    llama.cpp's own splitting holds whatever the name.

    Raises:
        BadCheckpoint: no or a malformed tokenizer.json, another algorithm, or ids beyond ``vocab_size``.
    """
    fast = FastTokenizer.load(folder, "WordPiece")
    table = fast.table("bert", fast.pre_tokenizer() or "default", vocab_size)
    table.tokens = [_marked(text, kind) for text, kind in zip(table.tokens, table.types, strict=True)]
    return table


def _marked(text: str, kind: int) -> str:
    if kind == TokenType.CONTROL:
        return text
    return text.removeprefix(_CONTINUES) if text.startswith(_CONTINUES) else _BEGINS + text
