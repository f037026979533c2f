"""The token trie: whatever the logits, only the given answers come out, and their probabilities are right."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kylin_gguf.engine.trie import Node, Trie

VOCABULARY = 32
END = 31

answers = st.lists(
    st.lists(st.integers(0, END - 1), max_size=6).map(lambda body: (*body, END)),
    min_size=1,
    max_size=12,
    unique=True,
)


def random_logits(seed: int) -> dict[int, np.ndarray]:
    """One row of logits for each node, whatever node asks."""
    generator = np.random.default_rng(seed)
    rows: dict[int, np.ndarray] = {}

    class Rows(dict):  # type: ignore[type-arg]
        def __missing__(self, key: int) -> np.ndarray:
            self[key] = (generator.standard_normal(VOCABULARY) * 20).astype(np.float32)
            return self[key]

    rows = Rows()
    return rows


@given(answers, st.integers(0, 2**32 - 1))
def test_probabilities_of_the_answers_sum_to_one(texts: list[tuple[int, ...]], seed: int) -> None:
    rows = random_logits(seed)
    logprobs = Trie(texts).score(lambda node: rows[id(node)])
    assert math.isclose(sum(math.exp(value) for value in logprobs), 1.0, rel_tol=1e-9)
    assert all(value <= 1e-12 for value in logprobs)


@given(answers, st.integers(0, 2**32 - 1))
def test_greedy_walk_over_random_logits_ends_in_an_answer(texts: list[tuple[int, ...]], seed: int) -> None:
    rows, trie = random_logits(seed), Trie(texts)
    node, walked = trie.root, []
    while node.children:
        node = max(node.children.values(), key=lambda child: rows[id(node)][child.token])
        walked.append(node.token)
    assert tuple(walked) in texts


@given(answers, st.integers(0, 2**32 - 1))
def test_score_equals_the_product_of_restricted_softmaxes(texts: list[tuple[int, ...]], seed: int) -> None:
    rows, trie = random_logits(seed), Trie(texts)
    logprobs = trie.score(lambda node: rows[id(node)])
    for answer, logprob in zip(texts, logprobs, strict=True):
        node, expected = trie.root, 0.0
        for token in answer:
            logits = (
                {child: float(rows[id(node)][child]) for child in node.children}
                if node.branches
                else {token: 0.0}
            )
            peak = max(logits.values())
            expected += logits[token] - peak - math.log(sum(math.exp(v - peak) for v in logits.values()))
            node = node.children[token]
        assert math.isclose(logprob, expected, rel_tol=1e-9, abs_tol=1e-9)


@given(answers)
def test_every_decoded_path_has_lanes_of_its_own(texts: list[tuple[int, ...]]) -> None:
    trie = Trie(texts)
    nodes = list(trie.to_decode())
    by_depth = itertools.groupby(nodes, key=lambda node: node.depth)
    for _, level in by_depth:
        lanes = [lane for node in level for lane in node.lanes]
        assert len(lanes) == len(set(lanes)), "two nodes of one depth share a sequence"
    assert all(0 <= lane < trie.lane_count for node in nodes for lane in node.lanes)
    assert all(node.lanes for node in nodes)
    assert [node.depth for node in nodes] == sorted(node.depth for node in nodes)


@given(answers)
def test_a_childs_lanes_are_among_its_parents(texts: list[tuple[int, ...]]) -> None:
    def walk(node: Node) -> None:
        for child in node.children.values():
            if child.branch_below:
                assert set(child.lanes) <= set(node.lanes)
                walk(child)

    walk(Trie(texts).root)


@pytest.mark.parametrize("texts", [[()], [(1, END), (1, END)], [(1,), (1, 2)], [(1, 2), (1,)]])
def test_ambiguous_answers_are_refused(texts: list[tuple[int, ...]]) -> None:
    with pytest.raises(ValueError, match="prefix"):
        Trie(texts)


def test_forced_tokens_are_not_decoded() -> None:
    trie = Trie([(1, 2, 3, END), (1, 2, 4, 5, END)])
    assert [node.token for node in trie.to_decode()] == [1, 2]
    assert trie.lane_count == 1
