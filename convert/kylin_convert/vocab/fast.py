"""``tokenizer.json``, what all algorithms stored in it share: token table, added tokens, pre-tokeniser."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from kylin_convert.checkpoint import read_json
from kylin_convert.vocab.table import TokenTable, TokenType, added_token
from kylin_gguf.errors import BadCheckpoint

FILE = "tokenizer.json"

_Flags = Mapping[int, Mapping[str, Any]]


@dataclass(frozen=True)
class FastTokenizer:
    """The file's ``content``, tokenizer_config.json as ``settings``, and the tokenizer that both describe.

    ``flags`` are those of added tokens by id; tokenizer_config.json's win, as in transformers.
    """

    path: Path
    content: Mapping[str, Any]
    settings: Mapping[str, Any]
    tokenizer: Tokenizer
    flags: _Flags

    @classmethod
    def load(cls, folder: Path, algorithm: str) -> FastTokenizer:
        """Read both files.

        Raises:
            BadCheckpoint: no or a malformed tokenizer.json, or one of another algorithm.
        """
        path = folder / FILE
        if not path.is_file():
            raise BadCheckpoint(str(folder), f"it has no {FILE}")
        content = read_json(path)
        match content:
            case {"model": {"type": kind}} if kind == algorithm:
                pass
            case _:
                raise BadCheckpoint(str(path), f"it is not a {algorithm} tokenizer")
        config = folder / "tokenizer_config.json"
        settings = read_json(config) if config.is_file() else {}
        flags = {entry["id"]: entry for entry in content.get("added_tokens") or ()}
        for key, entry in (settings.get("added_tokens_decoder") or {}).items():
            flags[int(key)] = {"id": int(key), **entry}
        return cls(path, content, settings, _load(path), flags)

    def table(self, model: str, pre: str, vocab_size: int) -> TokenTable:
        """Return all tokens, padded to ``vocab_size``, for GGUF's tokenizer ``model``.

        Raises:
            BadCheckpoint: a token's id is beyond ``vocab_size``.
        """
        table = TokenTable.padded(model, pre, vocab_size)
        texts = {i: text for text, i in self.tokenizer.get_vocab(with_added_tokens=True).items()}
        texts.update({i: entry["content"] for i, entry in self.flags.items()})
        if texts and max(texts) >= vocab_size:
            reason = f"token id {max(texts)} is beyond config.json's vocab_size of {vocab_size}"
            raise BadCheckpoint(str(self.path), reason)
        with _guarded(self.path):
            for i, text in texts.items():
                table.tokens[i], table.types[i] = self._entry(i, text)
        return table

    def _entry(self, i: int, text: str) -> tuple[str, int]:
        if i not in self.flags:
            return text, TokenType.NORMAL
        if not self.flags[i].get("normalized", True):
            # llama.cpp compares added tokens with raw text, so they are stored as they come out of a
            # round trip through the tokenizer's own normaliser.
            ids = self.tokenizer.encode(text, add_special_tokens=False).ids
            text = self.tokenizer.decode(ids, skip_special_tokens=False)
        return added_token(text, bool(self.flags[i].get("special")))

    def pre_tokenizer(self) -> str | None:
        """Return llama.cpp's name of the pre-tokeniser, told by how a probe is split; None if it has none.

        The method and the table are upstream's: a hash over the probe's token ids. Those include whatever
        special tokens the tokenizer adds. Where tokenizer_config.json alone asks for a leading BOS,
        transformers 4, with which the table was made, adds it, and 5 does not. That reading comes first: with
        it DeepSeek's tokenizers are known by their own names, without it by those of other models.
        """
        probe, known = _fingerprints()
        with _guarded(self.path):
            plain = self.tokenizer.encode(probe, add_special_tokens=False).ids
            candidates = [self.tokenizer.encode(probe).ids, plain]
        bos = self.settings.get("bos_token")
        text = bos["content"] if isinstance(bos, dict) else bos
        bos_id = self.tokenizer.token_to_id(text) if text else None
        if self.settings.get("add_bos_token") and bos_id is not None:
            candidates.insert(0, [bos_id, *plain])
        for ids in candidates:
            if name := known.get(hashlib.sha256(str(ids).encode()).hexdigest()):
                return name
        return None


def _load(path: Path) -> Tokenizer:
    with _guarded(path):
        tokenizer = Tokenizer.from_file(str(path))
        # Files saved in training cut and pad; transformers ignores both unless it is asked to.
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer


@contextmanager
def _guarded(path: Path) -> Iterator[None]:
    """Turn what the library raises into errors of the file: bare Exceptions, and panics, which are none."""
    try:
        yield
    except BaseException as error:
        if type(error) is not Exception and type(error).__name__ != "PanicException":  # it cannot be imported
            raise
        reason = f"the tokenizers library cannot use it ({' '.join(str(error).split())})"
        raise BadCheckpoint(str(path), reason) from error


@cache
def _fingerprints() -> tuple[str, Mapping[str, str]]:
    table = json.loads(files(__package__).joinpath("pretokenizers.json").read_text(encoding="utf-8"))
    return table["probe"], table["fingerprints"]
