"""Sampling options on their way to a server: mapped or refused, never dropped."""

from __future__ import annotations

from typing import Any

import pytest

from kylin_gguf.engine.remote.options import KNOWN, request_fields
from kylin_gguf.errors import InvalidGrammar, UnknownOption
from kylin_gguf.records import SamplingOptions


def fields(**options: Any) -> dict[str, Any]:
    return request_fields(SamplingOptions.from_options(options))


def test_what_is_not_asked_for_is_the_server_s_choice_but_for_the_length() -> None:
    assert fields() == {"max_tokens": SamplingOptions().max_tokens}


def test_what_is_asked_for_is_sent_also_where_it_is_our_default() -> None:
    same = {"temperature": 0.7, "top_p": 0.95, "presence_penalty": 0.0, "frequency_penalty": 1.0}
    assert fields(**same, seed=3, max_tokens=5, stop=["x"]) == {
        **same,
        "seed": 3,
        "max_tokens": 5,
        "stop": ["x"],
    }
    assert "seed" not in fields(seed=-1), "a fresh seed is what no seed gives"


def test_a_schema_and_log_probabilities_have_other_names_there() -> None:
    found = fields(json_schema='{"type": "object"}', logprobs=2)
    assert found["response_format"]["json_schema"]["schema"] == {"type": "object"}
    assert (found["logprobs"], found["top_logprobs"]) == (True, 2)
    with pytest.raises(InvalidGrammar):
        fields(json_schema="{")


VALUES: dict[str, Any] = {
    "grammar": 'root ::= "a"',
    "thinking": True,
    "typical_p": 1.0,
    "repeat_penalty": 1.1,
}


@pytest.mark.parametrize("name", sorted(set(SamplingOptions.names()) - set(KNOWN)))
def test_what_a_server_does_not_have_is_refused_by_name(name: str) -> None:
    value = VALUES.get(name, getattr(SamplingOptions(), name))
    with pytest.raises(UnknownOption) as caught:
        fields(**{name: value})
    assert (caught.value.option, caught.value.known) == (name, KNOWN)


@pytest.mark.parametrize("name", KNOWN)
def test_every_known_option_is_one_of_ours(name: str) -> None:
    assert name in SamplingOptions.names()
