"""Bytes to text: characters stay whole, stop strings unseen and reasoning apart, however the bytes are
cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kylin_gguf.engine.reasoning import Parts, ReasoningSplitter, Tags, is_tag, tags_of
from kylin_gguf.engine.text import TextAssembler

THINK = Tags("<think>", "</think>")
CUTS = st.lists(st.integers(0, 5))


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    pieces, at = [], 0
    for size in sizes:
        pieces.append(data[at : at + size])
        at += size
    return [*pieces, data[at:]]


def shown(assembler: TextAssembler, pieces: list[bytes]) -> Parts:
    """Return all that is shown of ``pieces``."""
    parts = []
    for piece in pieces:
        if not assembler.stopped:
            parts.append(assembler.push(piece))
    parts.append(assembler.finish())
    assert assembler.text == "".join(part.answer for part in parts)
    return Parts("".join(part.reasoning for part in parts), "".join(part.answer for part in parts))


def split(text: str, sizes: list[int], stops: tuple[str, ...] = (), *, thinking: bool = False) -> Parts:
    assembler = TextAssembler(stops, ReasoningSplitter(THINK, thinking=thinking))
    return shown(assembler, cut(text.encode(), sizes))


@given(st.text(), CUTS)
def test_text_survives_any_cutting(text: str, sizes: list[int]) -> None:
    assert shown(TextAssembler(), cut(text.encode(), sizes)) == ("", text)


@given(st.text(alphabet="ab<>/"), st.lists(st.integers(0, 3)))
def test_a_stop_string_and_what_follows_are_never_shown(text: str, sizes: list[int]) -> None:
    assembler = TextAssembler(["</a>", "b<b"])
    ends = [text.find(stop) for stop in ("</a>", "b<b") if stop in text]
    expected = text[: min(ends)] if ends else text
    assert shown(assembler, cut(text.encode(), sizes)).answer == expected
    assert assembler.stopped == bool(ends)


def test_half_a_character_waits() -> None:
    assembler = TextAssembler()
    data = "好".encode()
    assert (assembler.push(data[:2]).answer, assembler.push(data[2:]).answer) == ("", "好")


def test_an_unfinished_character_at_the_end_is_replaced() -> None:
    assembler = TextAssembler()
    assert assembler.push("好".encode()[:2]).answer == ""
    assert assembler.finish().answer == "\ufffd"


@given(CUTS)
@pytest.mark.parametrize(
    ("text", "thinking", "reasoning", "answer"),
    [
        ("<think>想一想\n</think>\n\n好", False, "想一想\n", "好"),
        ("\n<think></think>a", False, "", "a"),
        ("想</think> a </think>", True, "想", "a </think>"),
        ("<think>never closed </thin", False, "never closed </thin", ""),
        ("opened by the template", True, "opened by the template", ""),
        ("<think>a</think>\n<think>b</think>c", False, "ab", "c"),
        ("  no block", False, "", "  no block"),
        ("The tag <think> begins it", False, "", "The tag <think> begins it"),
        ("<thin", False, "", "<thin"),
        ("<thinking> is another word", False, "", "<thinking> is another word"),
        ("", False, "", ""),
    ],
)
def test_reasoning_is_told_apart(
    text: str, thinking: bool, reasoning: str, answer: str, sizes: list[int]
) -> None:
    assert split(text, sizes, thinking=thinking) == (reasoning, answer)


@given(CUTS)
def test_stop_strings_end_the_answer_only(sizes: list[int]) -> None:
    assert split("<think>one END two</think>three END four", sizes, ("END",)) == ("one END two", "three ")


@given(st.text(alphabet="a <>/think\n"), CUTS, st.booleans())
def test_cutting_does_not_change_the_parts(text: str, sizes: list[int], thinking: bool) -> None:
    assert split(text, sizes, thinking=thinking) == split(text, [], thinking=thinking)


def test_reasoning_is_shown_as_it_comes() -> None:
    assembler = TextAssembler((), ReasoningSplitter(THINK, thinking=False))
    pieces = (b"<think>", b"first ", b"second", b"</think>", b"\n", b"done")
    pushed = [assembler.push(piece) for piece in pieces]
    assert pushed == [("", ""), ("first ", ""), ("second", ""), ("", ""), ("", ""), ("", "done")]


def test_tags_are_the_templates_own() -> None:
    assert tags_of("{{ '[THINK]' + thinking + '[/THINK]' }}") == ("[THINK]", "[/THINK]")
    assert tags_of("{{ content.split('</think>') }}") == tags_of("") == THINK
    assert is_tag(b"</think>") and not is_tag(b"<|im_end|>")
