"""Byte-level BPE from ``tokenizer.json``, GGUF's tokenizer model ``gpt2``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kylin_convert.vocab.fast import FastTokenizer
from kylin_convert.vocab.table import TokenTable
from kylin_gguf.errors import BadCheckpoint


def read(folder: Path, vocab_size: int) -> TokenTable:
    """Return the token table, with merges.

    Raises:
        BadCheckpoint: no or a malformed tokenizer.json, another algorithm than byte-level BPE, ids beyond
            ``vocab_size``, or a pre-tokeniser that llama.cpp does not know.
    """
    fast = FastTokenizer.load(folder, "BPE")
    model = fast.content["model"]
    if model.get("byte_fallback"):
        raise BadCheckpoint(
            str(fast.path), "it restates a SentencePiece model, whose tokenizer.model is missing"
        )
    if not isinstance(merges := model.get("merges"), list):
        raise BadCheckpoint(str(fast.path), "it lists no merges")
    pre = fast.pre_tokenizer()
    if pre is None:
        reason = "its pre-tokeniser is unknown to llama.cpp, which would split text otherwise"
        raise BadCheckpoint(str(fast.path), reason)
    table = fast.table("gpt2", pre, vocab_size)
    table.merges = list(_merges(fast.path, merges))
    return table


def _merges(path: Path, merges: list[Any]) -> Iterator[str]:
    for merge in merges:
        match merge:
            case str(_):
                yield merge
            case [str(left), str(right)]:
                # GGUF separates the two by a space, so a space inside one is written as its byte's stand-in.
                yield " ".join(part.replace(" ", chr(ord(" ") + 256)) for part in (left, right))
            case _:
                raise BadCheckpoint(str(path), f"merge {merge!r} is malformed")
