"""What a reader of llama-server's stream makes of it."""

from __future__ import annotations

import json

import pytest

from bench.case import Unfair
from bench.chat import Reply, check_tokens
from bench.peers.llama_server import reply

LAST = {
    "choices": [],
    "usage": {
        "prompt_tokens": 30,
        "completion_tokens": 3,
        "prompt_tokens_details": {"cached_tokens": 20},
    },
    "timings": {"prompt_per_second": 500.0, "predicted_per_second": 100.0},
}


def _event(content: str | None, reason: str | None = None) -> bytes:
    choice = {"delta": {} if content is None else {"content": content}, "finish_reason": reason}
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


def _answer() -> Reply:
    a, b = _event("A"), _event("B")
    last = b"data: " + json.dumps(LAST).encode() + b"\n\ndata: [DONE]\n\n"
    chunks = [
        (1.5, _event("")),
        (2.0, a),
        (3.0, b[:9]),
        (3.1, b[9:]),
        (5.1, _event("C")),
        (5.2, _event(None, "length") + last),
    ]
    return reply(1.0, chunks)


def test_times_are_those_of_text_and_of_its_last_byte() -> None:
    found = _answer()
    assert (found.text, found.reason, found.arrivals) == ("ABC", "length", (2.0, 3.1, 5.1))
    assert found.first_token_s == 1.0
    assert found.seen_tokens_per_s == pytest.approx(2 / 3.1)


def test_counts_and_rates_are_the_servers() -> None:
    found = _answer()
    assert (found.prompt_tokens, found.cached_tokens, found.completion_tokens) == (30, 20, 3)
    assert (found.prefill_tokens_per_s, found.decode_tokens_per_s) == (500.0, 100.0)


def test_gaps_are_those_that_touch_the_time_asked_for() -> None:
    found = _answer()
    assert found.gaps(2.5, 2.6) == [pytest.approx(1.1)]
    assert found.gaps(3.0, 4.0) == [pytest.approx(1.1), pytest.approx(2.0)]
    assert found.gaps(6.0, 7.0) == []


def test_an_error_in_the_stream_is_no_sample() -> None:
    with pytest.raises(Unfair, match="too long"):
        reply(1.0, [(2.0, b'data: {"error": {"message": "too long"}}\n\n')])


def test_an_answer_without_text_is_no_sample() -> None:
    with pytest.raises(Unfair, match="no text"):
        reply(1.0, [(2.0, _event(None, "stop"))])


def test_other_work_than_asked_for_is_unfair() -> None:
    check_tokens(_answer(), prompt=30, completion=3)
    with pytest.raises(Unfair, match="30 tokens instead of 512"):
        check_tokens(_answer(), prompt=512)
    with pytest.raises(Unfair, match="after 3 tokens, not 64"):
        check_tokens(_answer(), completion=64)
