"""Options come from programs of others: names, types and ranges are checked."""

from __future__ import annotations

from typing import Any

import pytest

from kylin_gguf.errors import InvalidValue, UnknownOption
from kylin_gguf.records import Message, SamplingOptions


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("temperature", 0, 5.1),
        ("top_k", 0, 1.5),
        ("top_p", 1, -0.1),
        ("min_p", 0.5, "0.5"),
        ("typical_p", 0.2, 1.1),
        ("xtc_probability", 1.0, 1.1),
        ("xtc_threshold", 0.5, -0.1),
        ("repeat_penalty", 0.1, 0.0),
        ("repeat_last_n", 65_536, 65_537),
        ("presence_penalty", -2, 2.1),
        ("frequency_penalty", 2.0, -2.1),
        ("dry_multiplier", 0.8, -0.1),
        ("dry_base", 1.0, 0.9),
        ("dry_allowed_length", 2, -1),
        ("dry_penalty_last_n", 0, -1),
        ("seed", 2**32 - 1, 2**32),
        ("max_tokens", 1, 0),
        ("stop", ["a"], [""]),
        ("grammar", "root ::= [a]", b"root"),
        ("json_schema", "{}", {}),
        ("logprobs", -1, -2),
        ("logprobs", 20, 21),
        ("thinking", True, 1),
        ("sentences", True, "yes"),
        ("top_k", 1, True),
        ("temperature", 1.0, float("nan")),
    ],
)
def test_values_have_a_type_and_a_range(name: str, good: Any, bad: Any) -> None:
    options = SamplingOptions.from_options({name: good})
    assert SamplingOptions.from_options(options.to_json()) == options
    with pytest.raises(InvalidValue):
        SamplingOptions.from_options({name: bad})


def test_unknown_names_are_refused() -> None:
    with pytest.raises(UnknownOption):
        SamplingOptions.from_options({"temprature": 1.0})


def test_a_grammar_and_a_schema_together_are_refused() -> None:
    with pytest.raises(InvalidValue, match="json_schema"):
        SamplingOptions.from_options({"grammar": "root ::= [a]", "json_schema": "{}"})


def test_a_tools_message_is_a_message() -> None:
    assert Message.from_json({"role": "tool", "content": "12:00"}).role == "tool"
    with pytest.raises(InvalidValue):
        Message.from_json({"role": "function", "content": "12:00"})
