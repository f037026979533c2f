"""Tokenizers: from a checkpoint's files to the ``tokenizer.*`` keys that upstream's converter writes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import gguf

from kylin_convert.vocab import bpe, fast, sentencepiece, unigram, wordpiece
from kylin_convert.vocab.special import SpecialTokens
from kylin_convert.vocab.table import TokenTable
from kylin_gguf.errors import BadCheckpoint


@dataclass(frozen=True)
class Vocabulary:
    """Everything that GGUF says about a tokenizer.

    ``add_space_prefix`` and ``remove_extra_whitespaces`` are None where the algorithm's own rule holds.
    ``charsmap`` is SentencePiece's compiled table of replacements, empty where there is none.
    """

    table: TokenTable
    special: SpecialTokens
    add_space_prefix: bool | None = None
    remove_extra_whitespaces: bool | None = None
    charsmap: bytes = b""

    def write(self, writer: gguf.GGUFWriter) -> None:
        """Add the ``tokenizer.*`` keys."""
        self.table.write(writer)
        self.special.write(writer)
        if self.add_space_prefix is not None:
            writer.add_add_space_prefix(self.add_space_prefix)
        if self.remove_extra_whitespaces is not None:
            writer.add_remove_extra_whitespaces(self.remove_extra_whitespaces)
        if self.charsmap:
            writer.add_precompiled_charsmap(self.charsmap)


def read_vocabulary(folder: Path, vocab_size: int) -> Vocabulary:
    """Read ``tokenizer.model`` where there is one, else ``tokenizer.json``; pad to ``vocab_size`` tokens.

    Raises:
        BadCheckpoint: a file is missing or malformed, has more tokens than the model, or pre-tokenises in
            a way that llama.cpp does not know.
    """
    with _blaming(folder):
        if (folder / sentencepiece.FILE).is_file():
            table = sentencepiece.read(folder, vocab_size)
            return Vocabulary(table, SpecialTokens.read(folder, vocab_size))
        if not (folder / fast.FILE).is_file():
            raise BadCheckpoint(str(folder), f"it has neither {sentencepiece.FILE} nor {fast.FILE}")
        return Vocabulary(bpe.read(folder, vocab_size), SpecialTokens.read(folder))


def read_wordpiece(folder: Path, vocab_size: int) -> Vocabulary:
    """Read BERT's ``tokenizer.json``; pad to ``vocab_size`` tokens.

    Raises:
        BadCheckpoint: the file is missing or malformed, or has more tokens than the model.
    """
    with _blaming(folder):
        return Vocabulary(wordpiece.read(folder, vocab_size), SpecialTokens.read(folder, vocab_size))


def read_unigram(folder: Path, vocab_size: int) -> Vocabulary:
    """Read XLM-RoBERTa's ``sentencepiece.bpe.model``, else ``tokenizer.json``; pad to ``vocab_size`` tokens.

    Raises:
        BadCheckpoint: the file is missing or malformed, or has more tokens than the model.
    """
    with _blaming(folder):
        read = unigram.read(folder, vocab_size)
        if len(read.table.tokens) > vocab_size:
            reason = f"its tokenizer has {len(read.table.tokens)} tokens, config.json says {vocab_size}"
            raise BadCheckpoint(str(folder), reason)
        special = SpecialTokens.read(folder, vocab_size)
        return Vocabulary(read.table, special, read.space_prefix, read.squeezes, read.charsmap)


@contextmanager
def _blaming(folder: Path) -> Iterator[None]:
    # The files are strangers' JSON, read in a dozen places: whichever finds a number where a name should
    # be, the files are at fault. The cause is kept for --debug.
    try:
        yield
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        reason = f"its tokenizer files are malformed ({type(error).__name__}: {error})"
        raise BadCheckpoint(str(folder), reason) from error
