"""Calibration text: what a desktop assistant reads and writes, in the model's own chat format.

An importance matrix weighs each weight by the activations that meet it (llama.cpp, tools/imatrix), so the
text should look like use: both languages, the model's role markers, commands, code and tool calls.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path

import gguf

from kylin_gguf.chat_template import ChatTemplate
from kylin_gguf.errors import FileMissing, InvalidValue, TemplateFailed
from kylin_gguf.gguf_info import GgufInfo
from kylin_gguf.records import Message

Dialogue = tuple[Message, ...]
LANGUAGES = ("zh", "en")


@dataclass(frozen=True)
class Corpus:
    """``text`` is ready to tokenise, special tokens included; ``sha256`` is of the corpus file."""

    name: str
    sha256: str
    text: str


def shipped(model: GgufInfo) -> Corpus:
    """Return the corpus of this package, rendered for ``model``.

    Raises:
        TemplateFailed: the model's chat template refuses plain conversations.
    """
    content = files("kylin_convert").joinpath("corpus", "calibration.jsonl").read_bytes()
    return _rendered("built-in", content, model)


def held_out(language: str) -> Corpus:
    """Return plain text in one of ``LANGUAGES`` that no calibration uses, to check a model with."""
    content = files("kylin_convert").joinpath("corpus", f"held-out-{language}.txt").read_bytes()
    return Corpus(language, hashlib.sha256(content).hexdigest(), content.decode("utf-8"))


def read_text(path: Path) -> Corpus:
    """Return the text of a file, as it is.

    Raises:
        FileMissing: it cannot be read.
        InvalidValue: it is not UTF-8.
    """
    content = _bytes(path)
    try:
        return Corpus(path.stem, hashlib.sha256(content).hexdigest(), content.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise InvalidValue("text", str(path), "text in UTF-8") from error


def from_file(path: Path, model: GgufInfo) -> Corpus:
    """Return the user's corpus: a ``.jsonl`` of ``{"messages": [...]}`` lines, or any other text as it is.

    Raises:
        FileMissing: it cannot be read.
        InvalidValue: it is not UTF-8, or a line is not a conversation.
        TemplateFailed: the model's chat template refuses it.
    """
    if path.suffix == ".jsonl":
        return _rendered(path.name, _bytes(path), model)
    return replace(read_text(path), name=path.name)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise FileMissing(str(path), error.strerror or str(error)) from error


def _rendered(name: str, content: bytes, model: GgufInfo) -> Corpus:
    dialogues = list(_dialogues(name, content))
    if model.has_chat_template:
        template = ChatTemplate(model.path.name, model.chat_template, *_token_texts(model))
        text = "".join(_render(template, dialogue) for dialogue in dialogues)
    else:
        text = "\n\n".join("\n".join(message.content for message in dialogue) for dialogue in dialogues)
    return Corpus(name, hashlib.sha256(content).hexdigest(), text)


def _dialogues(name: str, content: bytes) -> Iterator[Dialogue]:
    for number, line in enumerate(content.splitlines(), 1):
        try:
            messages = json.loads(line)["messages"]
            yield tuple(Message.from_json(message) for message in messages)
        except (ValueError, KeyError, TypeError, AttributeError, InvalidValue) as error:
            expected = '{"messages": [{"role": …, "content": …}, …]}'
            raise InvalidValue(
                f"{name}, line {number}", line[:60].decode("utf-8", "replace"), expected
            ) from error


def _render(template: ChatTemplate, dialogue: Dialogue) -> str:
    try:
        return template.render(dialogue, add_generation_prompt=False)
    except TemplateFailed:
        without = [message for message in dialogue if message.role != "system"]
        if len(without) == len(dialogue):
            raise
        # Some families have no system role; what their conversations look like is the rest.
        return template.render(without, add_generation_prompt=False)


def _token_texts(model: GgufInfo) -> Sequence[str]:
    """Return the texts of BOS and EOS, read only where the template prints them."""
    wanted = [model.bos_id if "bos_token" in model.chat_template else None]
    wanted.append(model.eos_id if "eos_token" in model.chat_template else None)
    if wanted == [None, None]:
        return "", ""
    tokens = gguf.GGUFReader(model.path).fields["tokenizer.ggml.tokens"]
    return ["" if i is None else str(tokens.contents(i)) for i in wanted]
