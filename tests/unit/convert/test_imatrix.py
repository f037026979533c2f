"""When is a text read to its end? llama-imatrix says so by failing."""

from __future__ import annotations

import pytest

from kylin_convert import imatrix
from kylin_gguf.errors import ToolFailed

END = "E main: there will be not enough tokens left after removing 8 chunks"


class Tool:
    """A llama-imatrix with so many chunks to read; ``words`` is what arrives of what it says."""

    def __init__(self, chunks: int, words: str = END, status: int = 1) -> None:
        self.chunks, self.words, self.status = chunks, words, status
        self.runs: list[tuple[int, int]] = []

    def __call__(self, start: int, chunks: int) -> None:
        self.runs.append((start, chunks))
        if start >= self.chunks:
            raise ToolFailed("llama-imatrix", self.status, self.words)


def test_the_end_is_told_by_words_or_by_what_is_before() -> None:
    assert imatrix._run_unless_ended(Tool(9), 8, 4)
    told, lost = Tool(8), Tool(8, words="")
    assert not imatrix._run_unless_ended(told, 8, 4)
    assert told.runs == [(8, 4)]
    assert not imatrix._run_unless_ended(lost, 8, 4)
    assert lost.runs == [(8, 4), (6, 1)]


@pytest.mark.parametrize(
    ("tool", "start"),
    [(Tool(0), 0), (Tool(0, words="E no such file"), 8), (Tool(8, status=-9), 8), (Tool(0, words=""), 8)],
    ids=["a text of nothing", "a wrong file", "killed", "nothing works"],
)
def test_other_failures_are_told(tool: Tool, start: int) -> None:
    with pytest.raises(ToolFailed):
        imatrix._run_unless_ended(tool, start, 4)
