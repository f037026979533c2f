"""Bytes to text: characters stay whole and stop strings stay unseen, however the bytes are cut."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kylin_gguf.engine.text import TextAssembler


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    pieces, at = [], 0
    for size in sizes:
        pieces.append(data[at : at + size])
        at += size
    return [*pieces, data[at:]]


@given(st.text(), st.lists(st.integers(0, 5)))
def test_text_survives_any_cutting(text: str, sizes: list[int]) -> None:
    assembler = TextAssembler()
    shown = [assembler.push(piece) for piece in cut(text.encode(), sizes)]
    assert "".join(shown) + assembler.finish() == text == assembler.text


@given(st.text(alphabet="ab<>/"), st.lists(st.integers(0, 3)))
def test_a_stop_string_and_what_follows_are_never_shown(text: str, sizes: list[int]) -> None:
    assembler = TextAssembler(["</a>", "b<b"])
    shown = ""
    for piece in cut(text.encode(), sizes):
        if not assembler.stopped:
            shown += assembler.push(piece)
    shown += assembler.finish()
    ends = [text.find(stop) for stop in ("</a>", "b<b") if stop in text]
    assert shown == (text[: min(ends)] if ends else text) == assembler.text
    assert assembler.stopped == bool(ends)


def test_half_a_character_waits() -> None:
    assembler = TextAssembler()
    data = "好".encode()
    assert (assembler.push(data[:2]), assembler.push(data[2:])) == ("", "好")


def test_an_unfinished_character_at_the_end_is_replaced() -> None:
    assembler = TextAssembler()
    assert assembler.push("好".encode()[:2]) == ""
    assert assembler.finish() == "\ufffd"
