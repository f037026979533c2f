"""Tokenizers: from a checkpoint's files to the ``tokenizer.*`` keys that upstream's converter writes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import gguf

from kylin_convert.vocab import bpe, sentencepiece
from kylin_convert.vocab.special import SpecialTokens
from kylin_convert.vocab.table import TokenTable
from kylin_gguf.errors import BadCheckpoint


@dataclass(frozen=True)
class Vocabulary:
    """Everything that GGUF says about a tokenizer.

    ``add_space_prefix`` is None where the algorithm's own rule holds.
    """

    table: TokenTable
    special: SpecialTokens
    add_space_prefix: bool | None = None

    def write(self, writer: gguf.GGUFWriter) -> None:
        """Add the ``tokenizer.*`` keys."""
        self.table.write(writer)
        self.special.write(writer)
        if self.add_space_prefix is not None:
            writer.add_add_space_prefix(self.add_space_prefix)


def read_vocabulary(folder: Path, vocab_size: int) -> Vocabulary:
    """Read ``tokenizer.model`` where there is one, else ``tokenizer.json``; pad to ``vocab_size`` tokens.

    Raises:
        BadCheckpoint: a file is missing or malformed, has more tokens than the model, or pre-tokenises in
            a way that llama.cpp does not know.
    """
    try:
        if (folder / sentencepiece.FILE).is_file():
            table = sentencepiece.read(folder, vocab_size)
            return Vocabulary(table, SpecialTokens.read(folder, vocab_size))
        return Vocabulary(bpe.read(folder, vocab_size), SpecialTokens.read(folder))
    # The files are strangers' JSON, read in a dozen places: whichever finds a number where a name should
    # be, the files are at fault. The cause is kept for --debug.
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        reason = f"its tokenizer files are malformed ({type(error).__name__}: {error})"
        raise BadCheckpoint(str(folder), reason) from error
