"""Between text and tokens, through llama.cpp's low-level C API.

Nothing here is thread-safe: one worker, one thread. Names in parentheses are functions of ``llama.h``.
"""

from __future__ import annotations

import ctypes

import llama_cpp

_CONTROL = llama_cpp.LLAMA_TOKEN_ATTR_CONTROL | llama_cpp.LLAMA_TOKEN_ATTR_UNKNOWN


class Vocabulary:
    """A model's tokens. Lives as long as the model does.

    What is asked about tokens that are drawn is remembered: a look into a dictionary takes a tenth of a call
    into the library.
    """

    def __init__(self, handle: llama_cpp.llama_vocab_p) -> None:
        self.handle = handle
        self.size: int = llama_cpp.llama_vocab_n_tokens(handle)
        self._piece_buffer = ctypes.create_string_buffer(512)
        self._pieces: dict[tuple[int, bool], bytes] = {}
        self._ends: dict[int, bool] = {}
        self._controls: dict[int, bool] = {}

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
                self.handle, data, len(data), tokens, capacity, add_special, parse_special
            )
            if count >= 0:
                return list(tokens[:count])
            capacity = -count

    def with_bos(self, tokens: list[int]) -> list[int]:
        """Return ``tokens`` beginning with BOS where the model wants it and a template has not put it
        (llama_vocab_get_add_bos)."""
        bos = int(llama_cpp.llama_vocab_bos(self.handle))
        if not llama_cpp.llama_vocab_get_add_bos(self.handle) or tokens[:1] == [bos]:
            return tokens
        return [bos, *tokens]

    def piece(self, token: int, *, special: bool = False) -> bytes:
        """Return the bytes of ``token`` (llama_token_to_piece); none for control tokens unless asked."""
        piece = self._pieces.get((token, special))
        if piece is None:
            piece = self._pieces[token, special] = self._read_piece(token, special)
        return piece

    def _read_piece(self, token: int, special: bool) -> bytes:
        buffer = self._piece_buffer
        count = llama_cpp.llama_token_to_piece(self.handle, token, buffer, len(buffer), 0, special)
        if count < 0:
            self._piece_buffer = ctypes.create_string_buffer(-count)
            return self._read_piece(token, special)
        return bytes(buffer.raw[:count])

    def is_end(self, token: int) -> bool:
        """Return whether ``token`` ends generation (llama_vocab_is_eog)."""
        found = self._ends.get(token)
        if found is None:
            found = self._ends[token] = bool(llama_cpp.llama_vocab_is_eog(self.handle, token))
        return found

    def is_control(self, token: int) -> bool:
        """Return whether ``token`` is a control token or the unknown one: those that ``tokenize`` finds by
        their texts only when ``special`` (llama_vocab::impl::tokenizer_st_partition)."""
        found = self._controls.get(token)
        if found is None:
            attributes = llama_cpp.llama_vocab_get_attr(self.handle, token)
            found = self._controls[token] = bool(attributes & _CONTROL)
        return found

    def end_of_turn(self) -> int:
        """Return the token that ends an assistant's turn: EOT where the model has one, else EOS."""
        turn = int(llama_cpp.llama_vocab_eot(self.handle))
        return turn if turn >= 0 else int(llama_cpp.llama_vocab_eos(self.handle))

    def special_text(self, kind: str) -> str:
        """Return the text of the ``bos`` or ``eos`` token, empty if the model has none."""
        getter = {"bos": llama_cpp.llama_vocab_bos, "eos": llama_cpp.llama_vocab_eos}[kind]
        token = int(getter(self.handle))
        return self.piece(token, special=True).decode("utf-8", "replace") if token >= 0 else ""
