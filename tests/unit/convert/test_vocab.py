"""Tokenizers of checkpoints, as GGUF keys."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from kylin_convert.vocab import (
    bpe,
    fast,
    read_unigram,
    read_vocabulary,
    read_wordpiece,
    sentencepiece,
)
from kylin_convert.vocab.special import SpecialTokens
from kylin_convert.vocab.table import TokenType
from kylin_gguf.errors import BadCheckpoint
from tests import tiny_tokenizers as tokenizers

SOURCES = sorted(Path(__file__).parents[3].glob("build/source/llama_cpp_python-*/vendor/llama.cpp"))
CONTROL, NORMAL, USER, UNUSED = TokenType.CONTROL, TokenType.NORMAL, TokenType.USER_DEFINED, TokenType.UNUSED


@pytest.fixture
def known_probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """A byte-level BPE folder whose pre-tokeniser is in the table as ``tiny``; returns its size."""
    size = tokenizers.byte_level_bpe(tmp_path)
    ids = Tokenizer.from_file(str(tmp_path / "tokenizer.json")).encode("probe text").ids
    table = {hashlib.sha256(str(ids).encode()).hexdigest(): "tiny"}
    monkeypatch.setattr(fast, "_fingerprints", lambda: ("probe text", table))
    return size


def _settings(folder: Path, **changes: Any) -> None:
    path = folder / "tokenizer_config.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**content, **changes}), encoding="utf-8")


def test_byte_level_bpe(tmp_path: Path, known_probe: int) -> None:
    table = read_vocabulary(tmp_path, known_probe + 2).table
    assert (table.model, table.pre) == ("gpt2", "tiny")
    assert table.tokens[:3] == ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    assert table.types[:4] == [CONTROL, CONTROL, CONTROL, NORMAL]
    assert (table.tokens[known_probe - 1], table.types[known_probe - 1]) == ("<tool_call>", USER)
    assert table.tokens[-1] == f"[PAD{known_probe + 1}]"
    assert table.types[-2:] == [UNUSED, UNUSED]
    assert "t h" in table.merges or "h e" in table.merges


def test_a_vocabulary_larger_than_the_model_is_refused(tmp_path: Path, known_probe: int) -> None:
    with pytest.raises(BadCheckpoint, match=f"{known_probe - 1} is beyond"):
        read_vocabulary(tmp_path, known_probe - 1)


def test_an_unknown_pre_tokeniser_is_refused(tmp_path: Path) -> None:
    size = tokenizers.byte_level_bpe(tmp_path)
    with pytest.raises(BadCheckpoint, match="pre-tokeniser"):
        read_vocabulary(tmp_path, size)


def test_what_is_cut_and_padded_in_training_is_not_here(tmp_path: Path, known_probe: int) -> None:
    path = tmp_path / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.enable_truncation(1)
    tokenizer.enable_padding(length=50, pad_token="<|endoftext|>")
    tokenizer.save(str(path))
    assert read_vocabulary(tmp_path, known_probe).table.pre == "tiny"


def test_a_configured_bos_is_part_of_what_a_pre_tokeniser_is_known_by(
    tmp_path: Path, known_probe: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    plain = tokenizer.encode("probe text").ids
    bos = tokenizer.token_to_id("<|im_start|>")
    both = {
        hashlib.sha256(str(ids).encode()).hexdigest(): name
        for ids, name in ((plain, "plain"), ([bos, *plain], "with BOS"))
    }
    monkeypatch.setattr(fast, "_fingerprints", lambda: ("probe text", both))
    assert read_vocabulary(tmp_path, known_probe).table.pre == "plain"
    _settings(tmp_path, add_bos_token=True)
    assert read_vocabulary(tmp_path, known_probe).table.pre == "with BOS"


@pytest.mark.skipif(not SOURCES, reason="the pinned source is not unpacked: make native")
def test_the_pre_tokenizers_are_upstreams() -> None:
    source = (SOURCES[-1] / "conversion" / "base.py").read_text(encoding="utf-8")
    found = re.findall(r'if chkhsh == "(\w+)":(?:\s+#[^\n]*)*\s+res = "([^"]+)"', source)
    _, fingerprints = fast._fingerprints()
    assert len(found) == source.count("if chkhsh ==") > 90
    assert dict(found) == fingerprints
    assert {"deepseek-r1-qwen", "llama-bpe", "qwen2", "smollm"} <= set(fingerprints.values())


@pytest.mark.parametrize(
    "stated",
    [
        {"added_tokens_decoder": [1]},
        {"added_tokens_decoder": {"x": {"content": "a"}}},
        {"added_tokens_decoder": {"1": {}}},
        {"added_tokens_decoder": {"1": 7}},
        {"chat_template": 7},
    ],
)
@pytest.mark.parametrize("tokenizer", ["spm", "bpe"])
def test_malformed_settings_are_the_files_fault(
    tmp_path: Path, known_probe: int, tokenizer: str, stated: Any
) -> None:
    size = tokenizers.sentencepiece(tmp_path) if tokenizer == "spm" else known_probe
    _settings(tmp_path, **stated)
    with pytest.raises(BadCheckpoint, match=str(tmp_path)):
        read_vocabulary(tmp_path, size)


def test_merges_with_spaces_are_written_as_bytes(tmp_path: Path) -> None:
    merges = list(bpe._merges(tmp_path, ["a b", ["c", "d e"]]))
    assert merges == ["a b", "c dĠe"]


@pytest.mark.parametrize("content", ['{"model": {"type": "Unigram"}}', "[]", "{", "\x00"])
def test_other_tokenizers_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content, encoding="utf-8")
    with pytest.raises(BadCheckpoint, match=r"tokenizer.json"):
        read_vocabulary(tmp_path, 10)


def test_no_tokenizer_at_all(tmp_path: Path) -> None:
    with pytest.raises(BadCheckpoint, match=r"neither tokenizer.model nor tokenizer.json"):
        read_vocabulary(tmp_path, 10)


def test_sentencepiece(tmp_path: Path) -> None:
    size = tokenizers.sentencepiece(tmp_path)
    _settings(tmp_path, added_tokens_decoder={str(size): {"content": "<x>", "special": False}})
    vocabulary = read_vocabulary(tmp_path, size + 2)
    table = vocabulary.table
    assert (table.model, table.pre) == ("llama", "default")
    assert table.types[:4] == [TokenType.UNKNOWN, CONTROL, CONTROL, TokenType.BYTE]
    assert table.tokens[259:261] == ["\u2581the", "\u2581house"]
    assert table.scores[260] == -1.0
    assert (table.tokens[size], table.types[size], table.scores[size]) == ("<x>", USER, -1000.0)
    assert (table.types[size + 1], table.scores[size + 1]) == (UNUSED, -10000.0)
    assert vocabulary.special.add == {"bos": True}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_sentencepiece_model_is_an_error_of_ours_or_readable(
    tmp_path: Path, data: st.DataObject
) -> None:
    tokenizers.sentencepiece(tmp_path)
    path = tmp_path / sentencepiece.FILE
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        pieces = list(sentencepiece.read_pieces(path))
    except BadCheckpoint:
        return
    assert pieces
    assert all(isinstance(text, str) for text, _, _ in pieces)


def test_wordpiece(tmp_path: Path) -> None:
    size = tokenizers.wordpiece(tmp_path)
    vocabulary = read_wordpiece(tmp_path, size + 1)
    table = vocabulary.table
    assert (table.model, table.pre) == ("bert", "default")
    assert table.tokens[2:7] == ["[CLS]", "[SEP]", "[MASK]", "\u2581the", "\u2581house"]
    assert table.tokens[size - 2 : size] == ["s", "ing"]
    assert table.types[-1] == UNUSED
    assert vocabulary.special.normalizer == {"lowercase": True}
    assert vocabulary.special.ids["bos"] == 2


@pytest.mark.parametrize("write", [tokenizers.unigram, tokenizers.unigram_json])
def test_unigram(tmp_path: Path, write: Callable[[Path], int]) -> None:
    size = write(tmp_path)
    vocabulary = read_unigram(tmp_path, size)
    table = vocabulary.table
    assert table.tokens[:5] == ["<s>", "<pad>", "</s>", "<unk>", "\u2581the"]
    assert table.types[:5] == [CONTROL, CONTROL, CONTROL, TokenType.UNKNOWN, NORMAL]
    assert table.scores[4:6] == [-1.0, -2.0]
    assert len(table.tokens) == size
    assert vocabulary.add_space_prefix is True
    with pytest.raises(BadCheckpoint, match=r"config\.json says 5"):
        read_unigram(tmp_path, 5)


def test_the_replacements_of_a_sentencepiece_model(tmp_path: Path) -> None:
    tokenizers.unigram(tmp_path)
    path = tmp_path / "sentencepiece.bpe.model"
    # Fields of a message may come again: NormalizerSpec with a charsmap, and without a space in front.
    path.write_bytes(path.read_bytes() + bytes([0x1A, 6, 0x12, 2]) + b"ab" + bytes([0x18, 0]))
    spec = sentencepiece.read_spec(path)
    assert (spec.charsmap, spec.space_prefix, spec.is_unigram) == (b"ab", False, True)
    path.write_bytes(path.read_bytes() + bytes([0x12, 2, 0x18, 2]))
    with pytest.raises(BadCheckpoint, match="not a Unigram"):
        read_unigram(tmp_path, 20)


def _special(folder: Path, tokenizer: Any, config: Any = None, **stated: Any) -> SpecialTokens:
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(stated), encoding="utf-8")
    (folder / "config.json").write_text(json.dumps(config or {}), encoding="utf-8")
    return SpecialTokens.read(folder)


ADDED = [{"id": 5, "content": "<b>"}, {"id": 6, "content": "<e>"}, {"id": 7, "content": "<t>"}]


def _template(*pieces: str) -> list[dict[str, Any]]:
    return [{"Sequence": {"id": p}} if p in "AB" else {"SpecialToken": {"id": p}} for p in pieces]


def _post(single: list[Any], pair: list[Any]) -> dict[str, Any]:
    return {"type": "TemplateProcessing", "single": single, "pair": pair}


@pytest.mark.parametrize(
    ("post", "stated", "ids", "add"),
    [
        # Qwen: byte level, nothing is added.
        ({"type": "ByteLevel"}, {"eos_token": "<e>"}, {"eos": 6}, {"bos": False, "eos": False}),
        # Llama 3: a BOS before each sequence.
        (
            {
                "type": "Sequence",
                "processors": [
                    {"type": "ByteLevel"},
                    _post(_template("<b>", "A"), _template("<b>", "A", "<b>", "B")),
                ],
            },
            {"bos_token": {"content": "<b>"}, "eos_token": "<e>"},
            {"bos": 5, "eos": 6},
            {"bos": True, "eos": False, "sep": False},
        ),
        # The tokenizer ends with another token than the configuration names: that one ends a turn.
        (
            _post(_template("A", "<e>"), _template("A", "<e>", "B", "<e>")),
            {"eos_token": "<t>"},
            {"eos": 6, "eot": 7},
            {"eos": True, "sep": False},
        ),
        # What the post-processor does goes before what the configuration says.
        (
            {"type": "ByteLevel"},
            {"add_bos_token": True, "add_eos_token": True},
            {},
            {"bos": False, "eos": False},
        ),
        (None, {"add_bos_token": False, "bos_token": "<b>"}, {"bos": 5}, {"bos": False}),
        # RoBERTa: its processor names the tokens that the configuration leaves out.
        (
            {"type": "RobertaProcessing", "cls": ["<b>", 5], "sep": ["<e>", 6]},
            {"eos_token": "<e>"},
            {"eos": 6, "sep": 6, "cls": 5},
            {"bos": True, "eos": True, "sep": True},
        ),
    ],
)
def test_special_tokens(tmp_path: Path, post: Any, stated: Any, ids: Any, add: Any) -> None:
    special = _special(tmp_path, {"post_processor": post, "added_tokens": ADDED}, **stated)
    assert (special.ids, special.add) == (ids, add)


def test_configured_ids_fill_gaps_and_lists_are_skipped(tmp_path: Path) -> None:
    config = {"bos_token_id": 1, "eos_token_id": [2, 3], "pad_token_id": 9}
    special = _special(tmp_path, {"added_tokens": ADDED}, config, bos_token="<b>")
    assert special.ids == {"bos": 5, "pad": 9}


def test_templates_come_from_the_configuration_first(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_text("file", encoding="utf-8")
    assert _special(tmp_path, {}, eos_token="<e>").template == "file"
    assert _special(tmp_path, {}, chat_template="stated").template == "stated"
    (tmp_path / "additional_chat_templates").mkdir()
    (tmp_path / "additional_chat_templates" / "rag.jinja").write_text("more", encoding="utf-8")
    named = [{"name": "default", "template": "file"}, {"name": "rag", "template": "more"}]
    assert _special(tmp_path, {}, eos_token="<e>").template == named


def test_a_lower_casing_normaliser_is_told(tmp_path: Path) -> None:
    normalizer = {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Lowercase"}]}
    assert _special(tmp_path, {"normalizer": normalizer}).normalizer == {"lowercase": True}
