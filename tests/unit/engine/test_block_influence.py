"""How alike states are, and which parts of a text are read for it."""

from __future__ import annotations

import numpy as np
import pytest

from kylin_gguf.engine.blocks.__main__ import _spread
from kylin_gguf.engine.blocks.similarity import Similarity


def test_cosines_are_means_over_all_tokens() -> None:
    states = np.zeros((3, 2, 4), np.float32)
    states[0, :, 0] = 1  # before: along the first axis
    states[1, :, 0] = 5  # longer, but no other direction
    states[2, 0, 0], states[2, 1, 1] = 2, 3  # the second token has turned by a right angle
    one = Similarity(3)
    one.add(states)
    found = one.to_json()
    assert found["tokens"] == 2
    assert np.allclose(np.array(found["cosine"]), [[1, 1, 0.5], [1, 1, 0.5], [0.5, 0.5, 1]])
    both = Similarity(3)
    both.add(states[:, :1])
    both.add(states[:, 1:])
    assert both.to_json() == found


def test_a_state_of_nothing_is_like_none() -> None:
    one = Similarity(2)
    one.add(np.zeros((2, 1, 4), np.float32))
    assert one.to_json() == {"tokens": 1, "cosine": [[0, 0], [0, 0]]}


@pytest.mark.parametrize(
    ("tokens", "size", "count", "starts"),
    [(100, 10, 5, [0, 20, 40, 60, 80]), (35, 10, 8, [0, 10, 20]), (7, 10, 8, [0]), (10, 10, 1, [0])],
)
def test_chunks_are_spread_over_the_text(tokens: int, size: int, count: int, starts: list[int]) -> None:
    chunks = _spread(list(range(tokens)), size, count)
    assert [chunk[0] for chunk in chunks] == starts
    assert all(len(chunk) == min(size, tokens) for chunk in chunks)
