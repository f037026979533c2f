"""Special tokens, whether BOS and EOS are added, and the chat template.

The rules are those of gguf-py's SpecialVocab at the pinned llama.cpp. They are restated because the gguf
package on PyPI is older and decides add_bos_token and add_eos_token differently.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf

from kylin_convert.checkpoint import read_json
from kylin_gguf.errors import BadCheckpoint

# Kinds of special token, in the order in which upstream writes them, and GGUF's spelling of each. A cls
# token matters only as a stand-in for bos: GGUF has no key for it that llama.cpp reads.
_KEYS = {"bos": "bos", "eos": "eos", "unk": "unknown", "sep": "seperator", "pad": "padding", "mask": "mask"}
_ADDABLE = ("bos", "eos", "sep")

Template = str | list[dict[str, str]]


@dataclass
class SpecialTokens:
    """``ids`` by kind (``bos``, ``eos``, …); ``add`` says which of them encoding adds by itself.

    ``normalizer`` holds the normaliser's flags that llama.cpp can follow.
    """

    ids: dict[str, int] = field(default_factory=dict)
    add: dict[str, bool] = field(default_factory=dict)
    normalizer: dict[str, bool] = field(default_factory=dict)
    template: Template | None = None

    @classmethod
    def read(cls, folder: Path, vocab_size: int | None = None) -> SpecialTokens:
        """Read tokenizer.json, tokenizer_config.json, the template's files and config.json, in that order.

        With ``vocab_size``, ids beyond it are ignored.

        Raises:
            BadCheckpoint: one of the files is malformed.
        """
        tokenizer = _object(folder / "tokenizer.json")
        settings = dict(_object(folder / "tokenizer_config.json"))
        result = cls()
        names = {kind: _content(settings.get(f"{kind}_token")) for kind in (*_KEYS, "cls")}
        if tokenizer:
            names["bos"] = names["bos"] or names["cls"]
            names["eos"] = names["eos"] or names["sep"]
            result._follow_normalizer(tokenizer.get("normalizer") or {})
            result._follow_post_processor(tokenizer.get("post_processor") or {}, names)
        if settings:
            result.template = _template(folder, settings)
            ids = {t.get("content"): t.get("id") for t in reversed(tokenizer.get("added_tokens") or [])}
            for kind, name in names.items():
                if kind in _ADDABLE and isinstance(stated := settings.get(f"add_{kind}_token"), bool):
                    result.add.setdefault(kind, stated)
                result._set_id(kind, ids.get(name), vocab_size)
        config = _object(folder / "config.json")
        text = config.get("text_config") or {}  # of a model that sees, too
        for kind in names:
            value = config.get(f"{kind}_token_id")
            result._set_id(kind, text.get(f"{kind}_token_id") if value is None else value, vocab_size)
        return result

    def _set_id(self, kind: str, value: Any, vocab_size: int | None) -> None:
        # A list (several end tokens) is skipped, as upstream does: llama.cpp finds the others by their text.
        if type(value) is int and value >= 0 and (vocab_size is None or value < vocab_size):
            self.ids.setdefault(kind, value)

    def _follow_post_processor(self, processor: Mapping[str, Any], names: dict[str, str | None]) -> None:
        for step in processor.get("processors", [processor]):
            if step.get("type") == "RobertaProcessing":
                self.add.update({"bos": True, "eos": True, "sep": True})
                for kind, other in (("cls", "bos"), ("sep", "eos")):
                    names[kind] = names[kind] or (step.get(kind) or [names[other]])[0]
            elif step.get("type") == "ByteLevel":
                self.add.setdefault("bos", False)
                self.add.setdefault("eos", False)
            elif step.get("type") == "TemplateProcessing":
                self._follow_template(step.get("single", []), step.get("pair", []), names)

    def _follow_template(
        self, single: list[dict[str, Any]], pair: list[dict[str, Any]], names: dict[str, str | None]
    ) -> None:
        first = _special(single[0]) if len(single) > 1 else None
        last = _special(single[-1]) if len(single) > 1 else None
        if first is not None:
            if first not in (names["bos"], names["cls"]):
                names["bos"], names["cls"] = names["bos"] or first, names["cls"] or first
            self.add["bos"] = first in (names["bos"], names["cls"])
        if last is not None:
            if last != names["eos"]:
                # Encoding ends with another token than the configuration names: that one ends a turn.
                names["eot"], names["eos"] = names["eos"], last
            self.add["eos"] = True
        between = _between(pair, first, last)
        if between:
            enders = [name for name in (names["sep"], names["eos"]) if name]
            second = between[1] if len(between) == 2 else None  # noqa: PLR2004 - one that ends, one that parts
            self.add["sep"] = (between[0] in enders and last is None) or second in enders
            if self.add["sep"]:
                names["sep"] = names["sep"] or names["eos"]

    def _follow_normalizer(self, normalizer: Mapping[str, Any]) -> None:
        match normalizer.get("type"):
            case "Lowercase":
                self.normalizer["lowercase"] = True
            case "StripAccents":
                self.normalizer["strip_accents"] = True
            case "BertNormalizer":
                flags = {key: normalizer.get(key) for key in ("lowercase", "strip_accents")}
                self.normalizer.update({key: bool(flag) for key, flag in flags.items() if flag is not None})
            case "Sequence":
                for step in normalizer.get("normalizers", []):
                    self._follow_normalizer(step)

    def write(self, writer: gguf.GGUFWriter) -> None:
        """Add the keys."""
        for kind, token in self.ids.items():
            if kind != "cls":
                writer.add_uint32(f"tokenizer.ggml.{_KEYS.get(kind, kind)}_token_id", token)
        for kind, value in self.add.items():
            writer.add_bool(f"tokenizer.ggml.add_{kind}_token", value)
        for name, value in self.normalizer.items():
            writer.add_bool(f"tokenizer.ggml.normalizer.{name}", value)
        if self.template is not None:
            writer.add_chat_template(self.template)


def _object(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        return {}
    content = read_json(path)
    if not isinstance(content, dict):
        raise BadCheckpoint(str(path), "it is not a JSON object")
    return content


def _content(entry: Any) -> str | None:
    value = entry.get("content") if isinstance(entry, dict) else entry
    return value if isinstance(value, str) and value else None


def _special(piece: Mapping[str, Any]) -> str | None:
    value = (piece.get("SpecialToken") or {}).get("id")
    return value if isinstance(value, str) else None


def _between(pair: list[dict[str, Any]], first: str | None, last: str | None) -> list[str | None]:
    """Return the special tokens between the two sequences of a pair template."""
    start = 1 if first is not None and pair and _special(pair[0]) == first else 0
    stop = len(pair) - 1 if last is not None and pair and _special(pair[-1]) == last else len(pair)
    inner = pair[start:stop]
    ends = [(piece.get("Sequence") or {}).get("id") for piece in inner[:1] + inner[-1:]]
    return [_special(piece) for piece in inner[1:-1]] if ends == ["A", "B"] else []


def _template(folder: Path, settings: Mapping[str, Any]) -> Template | None:
    value = settings.get("chat_template")
    if value is None and (path := folder / "chat_template.jinja").is_file():
        value = path.read_text(encoding="utf-8")
        if extra := list(_extra_templates(folder / "additional_chat_templates")):
            value = [{"name": "default", "template": value}, *extra]
    elif value is None and (path := folder / "chat_template.json").is_file():
        value = _object(path).get("chat_template")
    match value:
        case None | str(_):
            return value
        case list(entries) if all(_is_named(entry) for entry in entries):
            return entries
        case _:
            raise BadCheckpoint(str(folder), "its chat_template is neither text nor a list of named texts")


def _is_named(entry: Any) -> bool:
    match entry:
        case {"name": str(_), "template": str(_)}:
            return True
        case _:
            return False


def _extra_templates(folder: Path) -> Iterator[dict[str, str]]:
    for path in sorted(folder.glob("*.jinja")):
        yield {"name": path.stem, "template": path.read_text(encoding="utf-8")}
