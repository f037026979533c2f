"""The engine's modules import the bindings, which need the native libraries loaded first."""

from __future__ import annotations

import itertools
import random

import gguf
import pytest

from kylin_gguf import config, native

native.load(config.load())

import llama_cpp  # noqa: E402

from kylin_gguf.engine import vocabulary as engine_vocabulary  # noqa: E402

END = "<|end|>"


def _byte_characters() -> dict[int, str]:
    """Return how byte-level vocabularies write each byte: printable ones as they are, the rest from U+0100
    on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = itertools.count(0x100)
    return {byte: chr(byte if byte in printable else next(others)) for byte in range(256)}


def _pieces() -> list[str]:
    """Return all bytes, then a few thousand words and scraps such as JSON is made of."""
    characters = _byte_characters()
    generator = random.Random(1)
    scraps = [
        '"',
        '":',
        '": ',
        '", "',
        "{",
        '{"',
        "}",
        "]",
        " [",
        "true",
        "false",
        "null",
        " 1",
        "12",
        "\n",
        "\\",
    ]
    words = {"".join(generator.choices("abcdefghij 好的", k=generator.randint(2, 6))) for _ in range(6000)}
    texts = dict.fromkeys(bytes([byte]) for byte in range(256))
    texts |= dict.fromkeys(text.encode() for text in (*scraps, *sorted(words)))
    return ["".join(characters[byte] for byte in text) for text in texts]


class Vocabulary(engine_vocabulary.Vocabulary):
    """One that tests can ask for tokens by text."""

    def token(self, text: str) -> int:
        """Return the token that is ``text``."""
        return next(token for token in range(self.size) if self.piece(token) == text.encode())


@pytest.fixture(scope="session")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Vocabulary:
    """A byte-level vocabulary of some six thousand tokens; the last one ends the answer."""
    path = tmp_path_factory.mktemp("vocabulary") / "vocabulary.gguf"
    tokens = [*_pieces(), END]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    kinds = [gguf.TokenType.NORMAL] * (len(tokens) - 1) + [gguf.TokenType.CONTROL]
    writer.add_token_types(kinds)
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(len(tokens) - 1)
    writer.add_bos_token_id(len(tokens) - 1)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    native.capture_log(lambda *_: None)
    params = llama_cpp.llama_model_default_params()
    params.vocab_only = True
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
    assert model
    return Vocabulary(llama_cpp.llama_model_get_vocab(model))
