"""What is left out of a conversation that does not fit, with characters as tokens."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kylin_gguf.engine.history import KEPT_AFTER_CUT, fit, room_for_prompt
from kylin_gguf.errors import ContextFull
from kylin_gguf.records import Message

OVERHEAD = 3


class Template:
    """Adds three tokens to each message; counts how often it is asked."""

    def __init__(self) -> None:
        self.renderings = 0

    def __call__(self, messages: Sequence[Message]) -> list[int]:
        self.renderings += 1
        text = "".join(f"<{message.role[0]}>{message.content}" for message in messages)
        return list(text.encode())


def conversation(turns: int, size: int = 10, system: str = "") -> list[Message]:
    """Return ``turns`` answered questions and a new one, all of ``size`` characters."""
    history = [
        Message("assistant" if index % 2 else "user", f"{index:0{size}}") for index in range(2 * turns + 1)
    ]
    return [Message("system", system), *history] if system else history


def test_what_fits_is_left_alone_and_rendered_once() -> None:
    template, messages = Template(), conversation(3)
    fitted = fit(template, messages, 1000, "trim", 0)
    assert (fitted.tokens, fitted.dropped, template.renderings) == (Template()(messages), 0, 1)


def test_oldest_turns_go_and_system_prompt_and_question_stay() -> None:
    messages = conversation(10, system="Be brief.")
    fitted = fit(Template(), messages, 150, "trim", 0)
    assert 0 < fitted.dropped < 20 and fitted.dropped % 2 == 0
    assert fitted.tokens == Template()([messages[0], *messages[1 + fitted.dropped :]])


def test_a_cut_leaves_room_so_that_the_next_turn_begins_at_the_same_place() -> None:
    room, size = 300, 10
    messages = conversation(12, size)
    cut = fit(Template(), messages, room, "trim", 0)
    assert len(cut.tokens) <= KEPT_AFTER_CUT * room
    template = Template()
    answered = [*messages, Message("assistant", "x" * size), Message("user", "y" * size)]
    after = fit(template, answered, room, "trim", cut.dropped)
    assert (after.dropped, template.renderings) == (cut.dropped, 1)
    assert after.tokens[: len(cut.tokens)] == cut.tokens, "the cached prefix is continued"


def test_a_cut_takes_a_handful_of_renderings() -> None:
    template = Template()
    fit(template, conversation(2000), 3000, "trim", 0)
    assert template.renderings <= 14


@pytest.mark.parametrize("overflow", ["trim", "refuse"])
def test_a_newest_message_too_long_alone_is_refused_with_the_numbers(overflow: str) -> None:
    messages = [*conversation(2)[:-1], Message("user", "z" * 500)]
    with pytest.raises(ContextFull) as caught:
        fit(Template(), messages, 400, overflow, 0)  # type: ignore[arg-type]
    assert caught.value.limit == 400 < caught.value.tokens


def test_refuse_drops_nothing() -> None:
    messages = conversation(10)
    with pytest.raises(ContextFull) as caught:
        fit(Template(), messages, 200, "refuse", 0)
    assert (caught.value.tokens, caught.value.limit) == (21 * (10 + OVERHEAD), 200)


def test_a_turn_goes_with_all_that_answers_it() -> None:
    """Conversations from SetContext need not alternate: a cut is always before a user's message."""
    roles = ("assistant", "user", "assistant", "assistant", "user", "user", "assistant", "user")
    messages = [Message(role, "0123456789") for role in roles]
    for room in range(4 * (10 + OVERHEAD), len(roles) * (10 + OVERHEAD)):
        fitted = fit(Template(), messages, room, "trim", 0)
        assert roles[fitted.dropped] == "user"


@given(st.integers(0, 40), st.integers(1, 60), st.integers(20, 2000), st.text("s", max_size=20))
def test_any_conversation_fits_or_is_refused(turns: int, size: int, room: int, system: str) -> None:
    messages = conversation(turns, size, system)
    try:
        fitted = fit(Template(), messages, room, "trim", 0)
    except ContextFull as error:
        newest = [*messages[: bool(system)], messages[-1]]
        assert len(Template()(newest)) == error.tokens > room
        return
    kept = messages[bool(system) + fitted.dropped :]
    assert kept[-1] is messages[-1] and kept[0].role == "user"
    assert len(fitted.tokens) <= room
    if fitted.dropped and len(kept) > 1:
        assert len(fitted.tokens) <= KEPT_AFTER_CUT * room
        more = messages[bool(system) + fitted.dropped - 2 :]
        longer = Template()([*messages[: bool(system)], *more])
        assert len(longer) > KEPT_AFTER_CUT * room, "a turn that could stay was dropped"


@pytest.mark.parametrize(("length", "max_tokens", "room"), [(1024, 1024, 768), (1024, 100, 924), (4, 9, 3)])
def test_room_is_what_an_answer_or_a_quarter_of_the_context_leaves(
    length: int, max_tokens: int, room: int
) -> None:
    assert room_for_prompt(length, max_tokens) == room
