"""Small tokenizers of every kind the converter reads, spelt out so that they are the same everywhere."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + eos_token }}"
    "{% endfor %}"
)
_MERGES = ("t h", "h e", "th e", "Ġ the", "Ġ h", "o u", "Ġh ou", "Ġhou s", "Ġhous e", "a n", "n d")
_WORDS = ("the", "house", "stands", "on", "hill", "cat", "天", "气", "##s", "##ing")
_PIECES = ("\u2581the", "\u2581house", "e", "t", "h", "o")
# SentencePiece's compiled replacements: the size of a trie, the trie, the texts. This one replaces nothing.
_CHARSMAP = struct.pack("<I", 1024) + bytes(1024) + b"\0"

Piece = tuple[str, float, int]


def _write(folder: Path, tokenizer: dict[str, Any] | None, settings: dict[str, Any]) -> None:
    if tokenizer is not None:
        content = {"version": "1.0", "truncation": None, "padding": None, **tokenizer}
        (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")


def _added(i: int, text: str, special: bool) -> dict[str, Any]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": not special}
    return {"id": i, "content": text, **flags, "special": special}


def _alphabet() -> list[str]:
    """Return GPT-2's stand-ins for the 256 bytes, in byte order."""
    kept = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    result, next_free = [], 256
    for byte in range(256):
        result.append(chr(byte if byte in kept else next_free))
        next_free += byte not in kept
    return result


def byte_level_bpe(folder: Path) -> int:
    """Write a BPE tokenizer of all bytes and a few words; return its size."""
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    texts = [*special, *_alphabet(), *(merge.replace(" ", "") for merge in _MERGES)]
    vocab = {text: i for i, text in enumerate(texts)}
    step = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": True}
    tokenizer = {
        "added_tokens": [*(_added(i, text, True) for i, text in enumerate(special)),
                         _added(len(texts), "<tool_call>", False)],
        "normalizer": None,
        "pre_tokenizer": step,
        "post_processor": step,
        "decoder": {**step, "trim_offsets": True},
        "model": {"type": "BPE", "vocab": vocab, "merges": list(_MERGES), "byte_fallback": False},
    }  # fmt: skip
    settings = {
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "chat_template": TEMPLATE,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    _write(folder, tokenizer, settings)
    return len(texts) + 1


def wordpiece(folder: Path) -> int:
    """Write BERT's kind of tokenizer; return its size."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    texts = [*special, *_WORDS]
    one, two = [{"SpecialToken": {"id": text, "type_id": 0}} for text in ("[CLS]", "[SEP]")]
    first, second = [{"Sequence": {"id": name, "type_id": 0}} for name in ("A", "B")]
    used = {text: {"id": text, "ids": [texts.index(text)], "tokens": [text]} for text in ("[CLS]", "[SEP]")}
    tokenizer = {
        "added_tokens": [_added(i, text, True) for i, text in enumerate(special)],
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": None,
            "lowercase": True,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [one, first, two],
            "pair": [one, first, two, second, two],
            "special_tokens": used,
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": {text: i for i, text in enumerate(texts)},
        },
    }
    kinds = ("pad", "unk", "cls", "sep", "mask")
    settings = {f"{kind}_token": text for kind, text in zip(kinds, special, strict=True)}
    # Saved in training: what an encoder does with long and short texts there.
    cut = {"max_length": 8, "stride": 0, "strategy": "LongestFirst", "direction": "Right"}
    padded = {
        "strategy": {"Fixed": 8},
        "direction": "Right",
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "[PAD]",
    }
    kept = {"truncation": cut, "padding": {**padded, "pad_to_multiple_of": None}}
    _write(folder, {**tokenizer, **kept}, {**settings, "tokenizer_class": "PreTrainedTokenizerFast"})
    return len(texts)


def _message(pieces: Sequence[Piece], *rest: tuple[int, bytes]) -> bytes:
    """Return a SentencePiece model: the pieces, then messages by field number."""
    result = b""
    for text, score, kind in pieces:
        encoded = text.encode()
        piece = (
            bytes([0x0A, len(encoded)]) + encoded + b"\x15" + struct.pack("<f", score) + bytes([0x18, kind])
        )
        result += bytes([0x0A, len(piece)]) + piece
    for number, content in rest:
        result += bytes([number << 3 | 2, len(content)]) + content
    return result


def sentencepiece(folder: Path) -> int:
    """Write a SentencePiece tokenizer of three special pieces, all bytes and some words; return its size."""
    pieces = [("<unk>", 0.0, 2), ("<s>", 0.0, 3), ("</s>", 0.0, 3)]
    pieces += [(f"<0x{byte:02X}>", 0.0, 6) for byte in range(256)]
    pieces += [(text, -float(rank), 1) for rank, text in enumerate(_PIECES)]
    trainer = bytes([0x18, 2, 0x98, 0x02, 1])  # TrainerSpec: model_type BPE, byte_fallback true
    (folder / "tokenizer.model").write_bytes(_message(pieces, (2, trainer)))
    settings = {"bos_token": "<s>", "eos_token": "</s>", "add_bos_token": True, "chat_template": TEMPLATE}
    _write(folder, None, settings)
    return len(pieces)


def unigram(folder: Path) -> int:
    """Write XLM-RoBERTa's kind of tokenizer; return its size: fairseq's places and a mask come on top."""
    pieces = [("<unk>", 0.0, 2), ("<s>", 0.0, 3), ("</s>", 0.0, 3)]
    pieces += [(text, -1.0 - rank, 1) for rank, text in enumerate(_PIECES)]
    # TrainerSpec: model_type Unigram; NormalizerSpec: remove_extra_whitespaces false
    model = _message(pieces, (2, bytes([0x18, 1])), (3, bytes([0x20, 0])))
    (folder / "sentencepiece.bpe.model").write_bytes(model)
    kinds = {"bos": "<s>", "eos": "</s>", "sep": "</s>", "cls": "<s>", "unk": "<unk>", "pad": "<pad>"}
    _write(folder, None, {f"{kind}_token": text for kind, text in kinds.items()})
    return len(pieces) + 2


def unigram_json(folder: Path) -> int:
    """Write the same as ``tokenizer.json`` alone; return its size."""
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    texts = [*special, *_PIECES, "<mask>"]
    scores = [0.0] * len(special) + [-1.0 - rank for rank in range(len(_PIECES))] + [0.0]
    tokenizer = {
        "added_tokens": [_added(texts.index(text), text, True) for text in (*special, "<mask>")],
        "normalizer": {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(_CHARSMAP).decode()},
        "pre_tokenizer": {
            "type": "Metaspace",
            "replacement": "\u2581",
            "prepend_scheme": "always",
            "split": True,
        },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [
                {"SpecialToken": {"id": "<s>", "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": "</s>", "type_id": 0}},
            ],
            "pair": [],
            "special_tokens": {t: {"id": t, "ids": [texts.index(t)], "tokens": [t]} for t in ("<s>", "</s>")},
        },
        "decoder": {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True},
        "model": {
            "type": "Unigram",
            "unk_id": 3,
            "vocab": [list(p) for p in zip(texts, scores, strict=True)],
        },
    }
    kinds = {
        "bos": "<s>",
        "eos": "</s>",
        "sep": "</s>",
        "cls": "<s>",
        "unk": "<unk>",
        "pad": "<pad>",
        "mask": "<mask>",
    }
    settings = {f"{kind}_token": text for kind, text in kinds.items()}
    _write(folder, tokenizer, {**settings, "tokenizer_class": "XLMRobertaTokenizer"})
    return len(texts)
