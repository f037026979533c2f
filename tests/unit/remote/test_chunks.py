"""Pieces of a chat completion: what is taken, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kylin_gguf.engine.remote import chunks
from kylin_gguf.engine.remote.chunks import Chunk, Counts
from kylin_gguf.engine.remote.unusable import Unusable


def read(choice: dict[str, Any] | None = None, **rest: Any) -> Chunk:
    return chunks.read(json.dumps({"choices": [choice] if choice is not None else [], **rest}))


def test_text_and_thoughts_are_told_apart() -> None:
    assert read({"delta": {"content": "a"}}) == Chunk(text="a")
    assert read({"delta": {"reasoning_content": "b"}}) == Chunk(reasoning="b")
    assert read({"delta": {"reasoning": "c", "content": None}}) == Chunk(reasoning="c")
    assert read({"delta": {}, "finish_reason": "length"}) == Chunk(finish="length")


def test_tokens_are_the_server_s_count() -> None:
    usage = {"prompt_tokens": 5, "completion_tokens": 2}
    assert read(usage=usage).counts == Counts(5, 0, 2)
    assert read(usage=usage | {"prompt_tokens_details": {"cached_tokens": 4}}).counts == Counts(5, 4, 2)
    assert read(usage=None).counts is None


def test_log_probabilities_come_as_a_local_model_s() -> None:
    top = [{"token": "a", "logprob": -0.1}, {"token": "b", "logprob": float("-inf")}]
    found = read(
        {"delta": {}, "logprobs": {"content": [{"token": "a", "logprob": -0.1, "top_logprobs": top}]}}
    )
    assert found.logprobs == (
        {
            "text": "a",
            "logprob": -0.1,
            "top": [{"text": "a", "logprob": -0.1}, {"text": "b", "logprob": -9999.0}],
        },
    )


def test_half_a_surrogate_pair_is_replaced() -> None:
    assert read({"delta": {"content": "x\ud83d"}}).text.strip("\N{REPLACEMENT CHARACTER}") == "x"


@pytest.mark.parametrize(
    "data",
    [
        "",
        "{",
        "[" * 100_000,
        "[]",
        "7",
        "{}",
        '{"choices": {}}',
        '{"choices": [7]}',
        '{"choices": [{"delta": []}, 1]}'.replace("[]}", "[1]}"),
        '{"choices": [{"delta": {"content": 7}}]}',
        '{"choices": [{"delta": {"content": {"a": 1}}}]}',
        '{"choices": [{"delta": {"tool_calls": [{"function": {"name": "rm"}}]}}]}',
        '{"choices": [{"delta": {}, "finish_reason": 1}]}',
        '{"choices": [], "usage": {"prompt_tokens": 1e9, "completion_tokens": 1}}',
        '{"choices": [], "usage": {"prompt_tokens": -1, "completion_tokens": 1}}',
        '{"choices": [], "usage": {"prompt_tokens": 99999999999999999999, "completion_tokens": 1}}',
        '{"choices": [], "usage": [1]}',
        '{"choices": [{"delta": {}, "logprobs": {"content": [{"token": "a", "logprob": NaN}]}}]}',
        '{"choices": [{"delta": {}, "logprobs": {"content": [{"token": "a", "logprob": 1e999}]}}]}',
        '{"choices": [{"delta": {}, "logprobs": {"content": ["a"]}}]}',
        '{"error": {"message": "overloaded"}}',
    ],
)
def test_what_is_no_piece_of_an_answer_is_refused(data: str) -> None:
    with pytest.raises(Unusable):
        chunks.read(data)
