"""Weights and vocabulary of one GGUF, through llama.cpp's low-level C API.

Handles are freed by ``close``. Nothing here is thread-safe: one worker, one thread.
Names in parentheses are functions of ``llama.h`` in the pinned source.
"""

from __future__ import annotations

import ctypes
import logging
from collections import deque
from collections.abc import Callable
from pathlib import Path

import llama_cpp

from kylin_gguf.errors import LoadFailed
from kylin_gguf.records import Placement

log = logging.getLogger(__name__)

_WARNING = 3  # ggml_log_level: warnings and errors explain why a load failed
_LOAD_MODE_MMAP = 1  # enum llama_load_mode
_META_BYTES = 256
_POOLINGS = tuple(
    str(kind)
    for kind in (
        llama_cpp.LLAMA_POOLING_TYPE_MEAN,
        llama_cpp.LLAMA_POOLING_TYPE_CLS,
        llama_cpp.LLAMA_POOLING_TYPE_LAST,
    )
)
"""As metadata has them. LLAMA_POOLING_TYPE_RANK gives a score and no vector."""


class LogTail:
    """Logs llama.cpp's warnings and keeps the last, to explain a failure in its own words."""

    def __init__(self, lines: int = 4) -> None:
        self._lines: deque[str] = deque(maxlen=lines)

    def __call__(self, level: int, text: str) -> None:
        if level >= _WARNING and text.strip():
            self._lines.append(text.strip())
            log.log(logging.WARNING if level == _WARNING else logging.ERROR, "llama.cpp: %s", text.strip())

    def reason(self) -> str:
        """Return the remembered lines as one."""
        return "; ".join(self._lines) or "llama.cpp gave no reason"


class Model:
    """Weights and vocabulary of one GGUF."""

    def __init__(
        self, path: Path, placement: Placement, log: LogTail, progress: Callable[[float], None]
    ) -> None:
        """Load the file (llama_model_load_from_file).

        Raises:
            LoadFailed: llama.cpp refused it.
        """
        params = llama_cpp.llama_model_default_params()
        params.n_gpu_layers = placement.gpu_layers
        # Also when weights are repacked: the file's pages can be dropped again once they were read.
        params.load_mode = _LOAD_MODE_MMAP
        params.use_extra_bufts = placement.mode == "throughput"

        def report(fraction: float, _: object) -> bool:
            progress(fraction)
            return True

        self._report = llama_cpp.llama_progress_callback(report)  # C keeps the pointer while it loads
        params.progress_callback = self._report
        handle = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
        if not handle:
            raise LoadFailed(str(path), log.reason())
        self.path = path
        self.handle = handle
        self.vocab = llama_cpp.llama_model_get_vocab(handle)
        self.vocab_size: int = llama_cpp.llama_vocab_n_tokens(self.vocab)
        self.has_decoder: bool = llama_cpp.llama_model_has_decoder(handle)
        self.has_encoder: bool = llama_cpp.llama_model_has_encoder(handle)
        self._piece_buffer = ctypes.create_string_buffer(512)

    def close(self) -> None:
        """Free the weights (llama_model_free)."""
        llama_cpp.llama_model_free(self.handle)

    def chat_template(self) -> str:
        """Return the default template's source, empty if the file has none."""
        source = llama_cpp.llama_model_chat_template(self.handle, None)
        return source.decode("utf-8", "replace") if source else ""

    def _own(self, key: str) -> str:
        """Return the architecture's own value of the file, as text; empty if it states none
        (llama_model_meta_val_str)."""
        buffer = ctypes.create_string_buffer(_META_BYTES)

        def value(name: str) -> str:
            found = llama_cpp.llama_model_meta_val_str(self.handle, name.encode(), buffer, _META_BYTES)
            return buffer.value.decode("utf-8", "replace") if found >= 0 else ""

        return value(f"{value('general.architecture')}.{key}")

    @property
    def embeds(self) -> bool:
        """Whether the file states how the vectors of a text's tokens become one vector."""
        return self._own("pooling_type") in _POOLINGS

    @property
    def embeds_in_parts(self) -> bool:
        """Whether a text may be decoded in several calls: where each token sees only earlier ones, and the
        last one's vector is the text's. Other poolings are taken over the tokens of one call."""
        causal = self._own("attention.causal") != "false"
        return causal and self._own("pooling_type") == str(llama_cpp.LLAMA_POOLING_TYPE_LAST)

    def tokenize_whole(self, text: str) -> list[int]:
        """Return ``text``'s tokens with those that the model wants around it, such as [CLS] and [SEP]
        (llama_tokenize with add_special); nothing in ``text`` becomes a control token."""
        return self._tokenize(text, add_special=True, parse_special=False)

    def tokenize(self, text: str, *, special: bool) -> list[int]:
        """Return token ids without BOS (llama_tokenize).

        Args:
            text: Any text.
            special: Whether texts such as ``<|im_end|>`` become control tokens. False for what users wrote.
        """
        return self._tokenize(text, add_special=False, parse_special=special)

    def _tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        data = text.encode("utf-8", "replace")
        capacity = len(data) + 8
        while True:
            tokens = (ctypes.c_int32 * capacity)()
            count = llama_cpp.llama_tokenize(
                self.vocab, data, len(data), tokens, capacity, add_special, parse_special
            )
            if count >= 0:
                return list(tokens[:count])
            capacity = -count

    def with_bos(self, tokens: list[int]) -> list[int]:
        """Return ``tokens`` beginning with BOS where the model wants it and a template has not put it
        (llama_vocab_get_add_bos)."""
        bos = int(llama_cpp.llama_vocab_bos(self.vocab))
        if not llama_cpp.llama_vocab_get_add_bos(self.vocab) or tokens[:1] == [bos]:
            return tokens
        return [bos, *tokens]

    def piece(self, token: int, *, special: bool = False) -> bytes:
        """Return the bytes of ``token`` (llama_token_to_piece); none for control tokens unless asked."""
        buffer = self._piece_buffer
        count = llama_cpp.llama_token_to_piece(self.vocab, token, buffer, len(buffer), 0, special)
        if count < 0:
            self._piece_buffer = ctypes.create_string_buffer(-count)
            return self.piece(token, special=special)
        return bytes(buffer.raw[:count])

    def is_end(self, token: int) -> bool:
        """Return whether ``token`` ends generation (llama_vocab_is_eog)."""
        return bool(llama_cpp.llama_vocab_is_eog(self.vocab, token))

    def end_of_turn(self) -> int:
        """Return the token that ends an assistant's turn: EOT where the model has one, else EOS."""
        turn = int(llama_cpp.llama_vocab_eot(self.vocab))
        return turn if turn >= 0 else int(llama_cpp.llama_vocab_eos(self.vocab))

    def special_text(self, kind: str) -> str:
        """Return the text of the ``bos`` or ``eos`` token, empty if the model has none."""
        getter = {"bos": llama_cpp.llama_vocab_bos, "eos": llama_cpp.llama_vocab_eos}[kind]
        token = int(getter(self.vocab))
        return self.piece(token, special=True).decode("utf-8", "replace") if token >= 0 else ""
