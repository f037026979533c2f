"""Byte-level BPE from ``tokenizer.json``, GGUF's tokenizer model ``gpt2``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from kylin_convert.checkpoint import read_json
from kylin_convert.vocab.table import TokenTable, TokenType, added_token
from kylin_gguf.errors import BadCheckpoint

FILE = "tokenizer.json"

_Flags = dict[int, Mapping[str, Any]]


def read(folder: Path, vocab_size: int) -> TokenTable:
    """Return the token table, with merges.

    Raises:
        BadCheckpoint: no or a malformed tokenizer.json, another algorithm than byte-level BPE, ids beyond
            ``vocab_size``, or a pre-tokeniser that llama.cpp does not know.
    """
    path = folder / FILE
    if not path.is_file():
        raise BadCheckpoint(str(folder), "it has neither tokenizer.model nor tokenizer.json")
    content = read_json(path)
    match content:
        case {"model": {"type": "BPE", "vocab": dict(), "merges": list(merges)} as model}:
            pass
        case _:
            raise BadCheckpoint(str(path), "it is not a BPE tokenizer")
    if model.get("byte_fallback"):
        raise BadCheckpoint(str(path), "it restates a SentencePiece model, whose tokenizer.model is missing")
    tokenizer = _load(path)
    config = folder / "tokenizer_config.json"
    settings = read_json(config) if config.is_file() else {}
    table = TokenTable.padded("gpt2", _pre_tokenizer(path, tokenizer, settings), vocab_size)
    _fill(path, table, tokenizer, _added_flags(content, settings))
    table.merges = list(_merges(path, merges))
    return table


def _load(path: Path) -> Tokenizer:
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception for whatever its parser dislikes
        raise BadCheckpoint(str(path), f"it cannot be loaded ({error})") from error


def _added_flags(content: Mapping[str, Any], settings: Mapping[str, Any]) -> _Flags:
    """Return the flags of added tokens by id; tokenizer_config.json's win, as in transformers."""
    flags: _Flags = {entry["id"]: entry for entry in content.get("added_tokens") or ()}
    for key, entry in (settings.get("added_tokens_decoder") or {}).items():
        flags[int(key)] = {"id": int(key), **entry}
    return flags


def _fill(path: Path, table: TokenTable, tokenizer: Tokenizer, flags: _Flags) -> None:
    texts = {i: text for text, i in tokenizer.get_vocab(with_added_tokens=True).items()}
    texts.update({i: entry["content"] for i, entry in flags.items()})
    if texts and max(texts) >= len(table.tokens):
        reason = f"token id {max(texts)} is beyond config.json's vocab_size of {len(table.tokens)}"
        raise BadCheckpoint(str(path), reason)
    for i, text in texts.items():
        if i not in flags:
            table.tokens[i], table.types[i] = text, TokenType.NORMAL
            continue
        if not flags[i].get("normalized", True):
            # llama.cpp compares added tokens with raw text, so they are stored as they come out of a
            # round trip through the tokenizer's own normaliser.
            ids = tokenizer.encode(text, add_special_tokens=False).ids
            text = tokenizer.decode(ids, skip_special_tokens=False)  # noqa: PLW2901
        table.tokens[i], table.types[i] = added_token(text, bool(flags[i].get("special")))


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


@cache
def _fingerprints() -> tuple[str, Mapping[str, str]]:
    table = json.loads(files(__package__).joinpath("pretokenizers.json").read_text(encoding="utf-8"))
    return table["probe"], table["fingerprints"]


def _pre_tokenizer(path: Path, tokenizer: Tokenizer, settings: Mapping[str, Any]) -> str:
    """Return llama.cpp's name of the pre-tokeniser, told by how a probe text is split.

    The method and the table are upstream's: a hash over the probe's token ids. Those include whatever
    special tokens the tokenizer adds; where tokenizer_config.json alone asks for a leading BOS, transformers
    adds it, so both readings are tried.
    """
    probe, known = _fingerprints()
    plain = tokenizer.encode(probe, add_special_tokens=False).ids
    candidates = [tokenizer.encode(probe).ids, plain]
    bos = settings.get("bos_token")
    bos_id = tokenizer.token_to_id(bos["content"] if isinstance(bos, dict) else bos) if bos else None
    if settings.get("add_bos_token") and bos_id is not None:
        candidates.append([bos_id, *plain])
    for ids in candidates:
        if name := known.get(hashlib.sha256(str(ids).encode()).hexdigest()):
            return name
    raise BadCheckpoint(
        str(path), "its pre-tokeniser is unknown to llama.cpp, which would split text otherwise"
    )
