"""Conversations as data, and the database that keeps them."""

from __future__ import annotations

import sqlite3
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kylin_gguf.conversations import MAX_CHARS, MAX_MESSAGES, Conversation, Database, Kept, database
from kylin_gguf.errors import (
    Busy,
    ConversationTooLong,
    InvalidValue,
    KeptSessionsUnusable,
    UnknownKeptSession,
)
from kylin_gguf.records import Entry, Message

USER, ANSWER = Message("user", "Hello  there"), Message("assistant", "Hi")


def contents(conversation: Conversation) -> list[str]:
    return [message.content for message in conversation.context()]


def ids(conversation: Conversation) -> list[int]:
    return [entry.id for entry in conversation.entries]


# --- What counts --------------------------------------------------------------------------------------


def test_ids_rise_and_are_not_used_again() -> None:
    talk = Conversation.beginning_with("Be brief.")
    talk.add(USER, ANSWER)
    assert ids(talk) == [1, 2, 3]
    again = talk.cleared()
    again.add(USER)
    assert ids(again) == [1, 4]
    edited = again.replaced([*again.entries[:1], Entry(ANSWER)])
    assert ids(edited) == [1, 5]


def test_selected_messages_count_and_the_others_stay() -> None:
    talk = Conversation.beginning_with("Be brief.")
    talk.add(USER, ANSWER, Message("user", "And now?"))
    talk.select([4])
    assert contents(talk) == ["Be brief.", "And now?"]
    talk.add(ANSWER)
    assert contents(talk) == ["Be brief.", "And now?", "Hi"]
    assert len(talk.entries) == 5
    with pytest.raises(InvalidValue, match="99"):
        talk.select([2, 99])
    assert contents(talk) == ["Be brief.", "And now?", "Hi"]
    talk.select([2, 3])
    assert contents(talk) == ["Be brief.", "Hello  there", "Hi"]


def test_a_system_message_comes_first_and_always_counts() -> None:
    with pytest.raises(InvalidValue, match="first place"):
        Conversation([Entry(USER), Entry(Message("system", "x"))])
    talk = Conversation([Entry(Message("system", "x"), counts=False), Entry(USER)])
    assert contents(talk) == ["x", USER.content]


def test_the_title_is_what_the_user_said_first() -> None:
    talk = Conversation.beginning_with("Be brief.")
    assert talk.title() == ""
    talk.add(USER, ANSWER)
    assert talk.title() == "Hello there"
    assert talk.title(5) == "Hello"


def test_what_is_too_long_is_refused() -> None:
    half = Message("user", "x" * (MAX_CHARS // 2))
    talk = Conversation([Entry(half), Entry(half)])
    with pytest.raises(ConversationTooLong):
        talk.check_room(1)
    with pytest.raises(ConversationTooLong):
        talk.replaced([*talk.entries, Entry(USER)])
    with pytest.raises(ConversationTooLong):
        Conversation([Entry(USER)] * (MAX_MESSAGES + 1))


# --- JSON ---------------------------------------------------------------------------------------------

MESSAGES = st.lists(st.builds(Message, st.sampled_from(["user", "assistant", "tool"]), st.text(max_size=9)))


@given(MESSAGES, st.sets(st.integers(1, 9)), st.integers(1, 99))
def test_json_brings_back_the_same(messages: list[Message], chosen: set[int], next_id: int) -> None:
    talk = Conversation(map(Entry, messages), next_id)
    talk.select(chosen & set(ids(talk)))
    copy = Conversation.from_json(talk.to_json("m"))
    assert copy.to_json("m") == talk.to_json("m")


@pytest.mark.parametrize(
    "change",
    [
        {"format": "other"},
        {"version": 2},
        {"surplus": 1},
        {"messages": "text"},
        {"messages": ["text"]},
        {"messages": [{"role": "user"}]},
        {"messages": [{"role": "nobody", "content": "x"}]},
        {"messages": [{"role": "user", "content": 1}]},
        {"messages": [{"role": "user", "content": "\ud800"}]},
        {"messages": [{"role": "user", "content": "x", "surplus": 1}]},
        {"messages": [{"role": "user", "content": "x", "id": -1}]},
        {"messages": [{"role": "user", "content": "x", "id": True}]},
        {"messages": [{"role": "user", "content": "x", "id": 1 << 60}]},
        {"messages": [{"role": "user", "content": "x", "counts": 1}]},
        {"messages": [{"role": "user", "content": "x", "id": 3}] * 2},
        {"next_id": 0},
        {"next_id": "1"},
        {"next_id": 1 << 60},
    ],
)
def test_other_json_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidValue):
        Conversation.from_json({**Conversation([Entry(USER)]).to_json("m"), **change})
    with pytest.raises(InvalidValue):
        Conversation.from_json([])


# --- The database -------------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "sessions" / "sessions.sqlite3"


def kept(session_id: str = "a", *messages: Message) -> Kept:
    return Kept(session_id, "echo", "/models/echo.gguf", "refuse", Conversation(map(Entry, messages)))


def test_nothing_is_made_before_something_is_kept(path: Path) -> None:
    Database(path).close()
    assert not path.parent.exists()


def test_what_is_kept_is_found_again_by_its_user_alone(path: Path) -> None:
    first = Database(path)
    first.add(kept("a", USER))
    first.add(kept("b"))
    assert first.update(kept("a", USER, ANSWER))
    modes = [stat.S_IMODE(file.stat().st_mode) for file in (path.parent, *path.parent.iterdir())]
    assert modes[0] == 0o700 and len(modes) > 1 and set(modes[1:]) == {0o600}
    second = Database(path)  # as after a kill: the first was not closed
    found = second.get("a")
    assert (found.model, found.reference, found.overflow) == ("echo", "/models/echo.gguf", "refuse")
    assert found.conversation.context() == [USER, ANSWER]
    listed = second.listing()
    assert [(one["id"], one["title"], one["messages"]) for one in listed] == [
        ("a", "Hello there", 2),
        ("b", "", 0),
    ]
    assert listed[0]["created"] <= listed[1]["created"] <= listed[0]["changed"]


def test_what_is_deleted_is_gone_from_the_file(path: Path) -> None:
    kept_on_disk = Database(path)
    kept_on_disk.add(kept("a", Message("user", "my secret words")))
    kept_on_disk.delete("a")
    assert not kept_on_disk.update(kept("a"))
    assert kept_on_disk.listing() == []
    assert all(b"my secret words" not in file.read_bytes() for file in path.parent.iterdir())
    for unknown in (kept_on_disk.get, kept_on_disk.delete):
        with pytest.raises(UnknownKeptSession):
            unknown("a")


def test_there_is_an_end_to_keeping(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "MAX_KEPT", 1)
    full = Database(path)
    full.add(kept("a"))
    with pytest.raises(Busy):
        full.add(kept("b"))


@pytest.mark.parametrize("content", [b"not a database " * 99, b"\0" * 4096])
def test_a_broken_file_is_named_and_left_alone(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(KeptSessionsUnusable, match=r"sessions\.sqlite3"):
        Database(path).listing()
    assert path.read_bytes() == content


def test_a_newer_format_is_left_alone(path: Path) -> None:
    made = Database(path)
    made.add(kept("a"))
    made.close()
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {database.SCHEMA_VERSION + 1}")
    connection.close()
    with pytest.raises(KeptSessionsUnusable, match="newer"):
        Database(path).get("a")


def test_a_document_that_is_not_ours_is_named(path: Path) -> None:
    made = Database(path)
    made.add(kept("a"))
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE session SET document = '{}'")
    connection.close()
    with pytest.raises(KeptSessionsUnusable):
        made.get("a")


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(KeptSessionsUnusable, match="file"):
        Database(tmp_path / "file" / "sessions.sqlite3").listing()
