"""Texts are computed together as far as a batch goes."""

import pytest

from kylin_gguf.engine.embedding.packing import fitting


@pytest.mark.parametrize(
    ("lengths", "count"),
    [([3, 3, 3], 3), ([3, 3, 5], 2), ([3, 8], 1), ([11], 1), ([1] * 9, 4), ([4, 9, 1], 1)],
)
def test_as_many_as_fit_and_at_least_one(lengths: list[int], count: int) -> None:
    assert fitting(lengths, texts=4, tokens=10) == count
