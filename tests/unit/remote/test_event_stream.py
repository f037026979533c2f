"""Server-sent events out of bytes that come in any pieces."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kylin_gguf.engine.remote.event_stream import MAX_EVENT, EventReader
from kylin_gguf.engine.remote.unusable import Unusable

STREAM = (
    b"data: {}\n\n: keep-alive\n\nevent: x\r\nid: 3\r\ndata:one\r\ndata: two\r\n\r\n"
    b"data: \xe4\xbd\xa0\r\rdata: last\n\n"
)


def read(*pieces: bytes) -> list[str]:
    reader = EventReader()
    return [event for piece in pieces for event in reader.push(piece)]


def test_data_is_what_counts() -> None:
    assert read(STREAM) == ["{}", "one\ntwo", "你", "last"]


@given(st.lists(st.integers(0, len(STREAM)), max_size=20).map(sorted))
def test_where_it_is_cut_does_not_matter(cuts: list[int]) -> None:
    edges = [0, *cuts, len(STREAM)]
    assert read(*(STREAM[a:b] for a, b in itertools.pairwise(edges))) == read(STREAM)


def test_an_event_that_is_not_ended_is_none() -> None:
    assert read(b"data: x\n") == []


@pytest.mark.parametrize(
    "endless",
    [[b"data: ", *[b"x" * 65536] * 17], [b"x" * 65536] * 17, [b"data: " + b"x" * 60000 + b"\n"] * 18],
    ids=["a line", "no field", "an event"],
)
def test_there_is_an_end_to_patience(endless: list[bytes]) -> None:
    assert sum(map(len, endless)) > MAX_EVENT
    with pytest.raises(Unusable, match="more than"):
        read(*endless)


def test_what_is_not_utf8_is_refused() -> None:
    with pytest.raises(Unusable, match="UTF-8"):
        read(b"data: \xff\xfe\n\n")
