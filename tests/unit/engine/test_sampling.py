"""A few candidates give the token that the whole vocabulary gives."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import llama_cpp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kylin_gguf.engine.context import Logits
from kylin_gguf.engine.sampling import Sampler
from kylin_gguf.engine.sampling import candidates as candidates_module
from kylin_gguf.engine.sampling.candidates import Candidates, highest
from kylin_gguf.engine.sampling.grammar import Grammar
from kylin_gguf.errors import InvalidGrammar
from kylin_gguf.records import SamplingOptions

from .conftest import Vocabulary

LENGTH = 6
PROMPT = [5, 6, 7, 5, 6, 7, 5, 6]
ONE_VOCABULARY = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

GRAMMARS = (
    {},
    {"json_schema": "{}"},
    {"grammar": 'root ::= [a-j]+ "." root | " 1" [0-9]*'},
)
CHAINS: tuple[dict[str, Any], ...] = (
    {},
    {"top_k": 0},
    {"top_k": 0, "top_p": 1.0},
    {"top_k": 0, "min_p": 0.0},
    {"top_k": 0, "top_p": 1.0, "min_p": 0.0, "temperature": 0.2},
    {"top_k": 7, "typical_p": 0.6},
    {"top_k": 0, "typical_p": 0.6, "top_p": 0.8},
    {"xtc_probability": 0.7, "xtc_threshold": 0.05},
    {"repeat_penalty": 0.5, "repeat_last_n": 8},
    {"presence_penalty": -2.0, "frequency_penalty": 1.5, "repeat_last_n": 200},
    {"dry_multiplier": 5.0, "dry_allowed_length": 1},
    {"temperature": 0.0},
)


class Outputs:
    """As much of a context as a sampler needs."""

    def __init__(self, rows: Sequence[Logits]) -> None:
        self._rows = rows

    def logits(self, index: int) -> Logits:
        return self._rows[index]


def rows_of(vocabulary: Vocabulary, seed: int, scale: float) -> list[Logits]:
    generator = np.random.default_rng(seed)
    return [(generator.standard_normal(vocabulary.size) * scale).astype(np.float32) for _ in range(LENGTH)]


def drawn(vocabulary: Vocabulary, options: SamplingOptions, rows: list[Logits]) -> list[int]:
    """Return the tokens up to the end, or until nothing continues the grammar (marked by -1)."""
    sampler = Sampler(vocabulary, options, PROMPT)
    tokens: list[int] = []
    try:
        for index in range(len(rows)):
            tokens.append(sampler.sample(Outputs(rows), index))
            if vocabulary.is_end(tokens[-1]):
                break
    except InvalidGrammar:
        tokens.append(-1)
    finally:
        sampler.close()
    return tokens


@pytest.mark.parametrize("chain", CHAINS, ids=str)
@pytest.mark.parametrize("grammar", GRAMMARS, ids=str)
@given(seed=st.integers(0, 2**32 - 2), scale=st.sampled_from([0.1, 1.0, 3.0, 10.0]))
@settings(ONE_VOCABULARY, max_examples=8)
def test_few_candidates_draw_what_all_draw(
    vocabulary: Vocabulary, chain: dict[str, Any], grammar: dict[str, str], seed: int, scale: float
) -> None:
    """With the whole vocabulary as the only shortlist, the chain is llama.cpp's with the grammar first."""
    options = SamplingOptions.from_options({**chain, **grammar, "seed": seed})
    rows = rows_of(vocabulary, seed, scale)
    few = drawn(vocabulary, options, rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(candidates_module, "_WIDTHS", ())
        assert few == drawn(vocabulary, options, rows)


@pytest.mark.parametrize("chain", [chain for chain in CHAINS if chain.get("temperature") != 0.0], ids=str)
def test_the_chain_draws_what_llama_cpp_draws(vocabulary: Vocabulary, chain: dict[str, Any]) -> None:
    """The reference is made here of llama.cpp's samplers, in the order of common_sampler_init."""
    options = SamplingOptions(**{**chain, "seed": 4})
    reference = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
    for sampler in (
        llama_cpp.llama_sampler_init_penalties(
            vocabulary.size,
            options.repeat_last_n,
            options.repeat_penalty,
            options.frequency_penalty,
            options.presence_penalty,
        ),
        llama_cpp.llama_sampler_init_dry(
            vocabulary.handle,
            options.dry_multiplier,
            options.dry_base,
            options.dry_allowed_length,
            options.dry_penalty_last_n,
            (ctypes.c_char_p * 4)(b"\n", b":", b'"', b"*"),
            4,
        ),
        llama_cpp.llama_sampler_init_top_k(options.top_k),
        llama_cpp.llama_sampler_init_typical(options.typical_p, 1),
        llama_cpp.llama_sampler_init_top_p(options.top_p, 1),
        llama_cpp.llama_sampler_init_min_p(options.min_p, 1),
        llama_cpp.llama_sampler_init_xtc(options.xtc_probability, options.xtc_threshold, 1, 4),
        llama_cpp.llama_sampler_init_temp(options.temperature),
        llama_cpp.llama_sampler_init_dist(4),
    ):
        llama_cpp.llama_sampler_chain_add(reference, sampler)
    for token in PROMPT:
        llama_cpp.llama_sampler_accept(reference, token)
    everything, expected = Candidates(), []
    rows = rows_of(vocabulary, 9, 3.0)
    for row in rows:
        everything.fill(np.arange(len(row), dtype=np.int32), row)
        everything.apply(reference)
        expected.append(everything.selected)
        llama_cpp.llama_sampler_accept(reference, expected[-1])
    llama_cpp.llama_sampler_free(reference)
    assert drawn(vocabulary, options, rows)[: len(expected)] == expected


@given(
    st.lists(
        st.one_of(st.floats(-5, 5, width=32), st.sampled_from([0.0, float("-inf")])), min_size=1, max_size=900
    ),
    st.integers(1, 200),
)
@settings(deadline=None)
def test_highest_are_the_highest(values: list[float], count: int) -> None:
    logits = np.array(values, np.float32)
    ids = highest(logits, count)
    least = np.sort(logits)[::-1][min(count, len(logits)) - 1]
    assert ids.tolist() == np.flatnonzero(logits >= least).tolist()


def test_greedy_takes_the_likeliest_and_no_penalty_moves_it(vocabulary: Vocabulary) -> None:
    row = np.zeros(vocabulary.size, np.float32)
    row[5] = 1.0
    options = SamplingOptions(temperature=0.0, repeat_penalty=10.0, presence_penalty=2.0, dry_multiplier=5.0)
    assert drawn(vocabulary, options, [row] * 3) == [5, 5, 5]


@pytest.mark.parametrize(
    "penalty",
    [
        {"repeat_penalty": 10.0},
        {"presence_penalty": 2.0},
        {"frequency_penalty": 2.0},
        {"dry_multiplier": 10.0, "repeat_last_n": 0},
    ],
    ids=str,
)
def test_penalties_see_the_prompt(vocabulary: Vocabulary, penalty: dict[str, Any]) -> None:
    """The prompt ends 5 6 7 5 6: 7 is recent and would go on with a repetition; 100 is neither."""
    row = np.full(vocabulary.size, -20.0, np.float32)
    row[7], row[100] = 2.0, 1.9
    likeliest = {"top_k": 1, "seed": 1, "repeat_penalty": 1.0}
    assert drawn(vocabulary, SamplingOptions(**likeliest), [row]) == [7]
    assert drawn(vocabulary, SamplingOptions(**{**likeliest, **penalty}), [row]) == [100]


def test_a_seed_repeats_its_draws_and_another_does_not(vocabulary: Vocabulary) -> None:
    rows = rows_of(vocabulary, 1, 1.0) * 4
    first, again, other = (drawn(vocabulary, SamplingOptions(seed=seed), rows) for seed in (1, 1, 2))
    assert first == again != other
    highest = [drawn(vocabulary, SamplingOptions(seed=2**32 - 1), rows) for _ in range(2)]
    assert highest[0] == highest[1]


def test_a_grammar_that_no_token_continues_is_an_error(vocabulary: Vocabulary) -> None:
    for temperature in (0.0, 1.0):
        options = SamplingOptions(grammar='root ::= "\\U0001F600" "x"', temperature=temperature)
        rows = rows_of(vocabulary, 3, 1.0)
        sampler = Sampler(vocabulary, options, [])
        assert vocabulary.piece(sampler.sample(Outputs(rows), 0)) == b"\xf0"
        sampler.close()
    barred = SamplingOptions(grammar='root ::= ""', temperature=1.0)
    row = np.zeros(vocabulary.size, np.float32)
    assert vocabulary.is_end(drawn(vocabulary, barred, [row])[0])


def test_a_grammar_lets_through_what_it_describes(vocabulary: Vocabulary) -> None:
    grammar = Grammar(vocabulary, 'root ::= "{" "true"? "}"')
    try:
        assert not grammar.allows(vocabulary.token("true"))
        for text in ("{", "true", "}"):
            assert grammar.allows(vocabulary.token(text))
            grammar.accept(vocabulary.token(text))
        assert grammar.allows(vocabulary.size - 1) and not grammar.allows(vocabulary.token("}"))
    finally:
        grammar.close()
