"""The worker's end of a client's socket."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

import pytest

from kylin_gguf import frames
from kylin_gguf.engine.stream import MAX_TEXT_CHARS, ClientStream


@pytest.fixture
def pair() -> tuple[ClientStream, socket.socket]:
    ours, theirs = socket.socketpair()
    theirs.settimeout(5)
    return ClientStream(ours), theirs


def read_all(client: socket.socket, stream: ClientStream) -> list[frames.Frame]:
    data = b""
    while not stream.drained or data[-1:] != b"\n":
        data += client.recv(1 << 16)
        stream.flush()
    return list(frames.decode([data]))


def test_frames_arrive_in_order_and_the_end_drains(pair: tuple[ClientStream, socket.socket]) -> None:
    stream, client = pair
    stream.send(frames.text("你好"))
    assert not stream.drained
    stream.send(frames.end("stop"))
    assert read_all(client, stream) == [{"type": "text", "text": "你好"}, {"type": "end", "reason": "stop"}]


def test_who_waits_for_the_first_text_is_let_run_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair()
    seen: list[bytes] = []
    monkeypatch.setattr(os, "sched_yield", lambda: seen.append(theirs.recv(1 << 16, socket.MSG_PEEK)))
    stream = ClientStream(ours)
    stream.send(frames.notice("loading", 0.5))
    stream.send(frames.text("a"))
    stream.send(frames.text("b"))
    assert [list(frames.decode([data]))[-1] for data in seen] == [frames.text("a")]


def test_a_slow_reader_blocks_and_loses_nothing(pair: tuple[ClientStream, socket.socket]) -> None:
    stream, client = pair
    count = 0
    while not stream.blocked:
        stream.send(frames.text(f"{count:04d}" * 100))
        count += 1
    stream.send(frames.end("length"))
    assert not stream.drained
    received = read_all(client, stream)
    assert [frame["text"][:4] for frame in received[:-1]] == [f"{n:04d}" for n in range(count)]
    assert received[-1] == {"type": "end", "reason": "length"}


@pytest.mark.parametrize("kind", [frames.text, frames.reasoning])
def test_a_long_text_is_split_into_frames_that_are_written_whole(
    pair: tuple[ClientStream, socket.socket], kind: Callable[[str], frames.Frame]
) -> None:
    stream, client = pair
    text = "长" * (MAX_TEXT_CHARS * 2 + 1)
    stream.send(kind(text))
    stream.send(frames.end("stop"))
    received = read_all(client, stream)
    assert {frame["type"] for frame in received[:-1]} == {kind("")["type"]}
    assert [len(frame["text"]) for frame in received[:-1]] == [MAX_TEXT_CHARS, MAX_TEXT_CHARS, 1]
    assert "".join(frame["text"] for frame in received[:-1]) == text


def test_a_client_that_has_gone_is_noticed_when_writing(pair: tuple[ClientStream, socket.socket]) -> None:
    stream, client = pair
    client.close()
    stream.send(frames.text("hello"))
    assert stream.closed and not stream.blocked
    stream.send(frames.end("cancelled"))
    assert not stream.blocked
