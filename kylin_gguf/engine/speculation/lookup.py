"""Guesses from the text itself: what followed the last few tokens when they stood there before.

Answers that quote do so in long runs: a corrected text, a summary, code that is changed in one place. The
idea is Saxena's prompt lookup decoding (2023); here each position is indexed once, so that a guess costs one
look into a dictionary however long the text is.
"""

from __future__ import annotations

from collections.abc import Sequence

_CONTEXT = 3
"""Tokens that must agree. Two agree by chance too often, four miss the beginnings of quotations."""


class PromptLookup:
    """An index of one request's tokens, which only grow."""

    def __init__(self) -> None:
        self._behind: dict[tuple[int, ...], int] = {}
        """By some tokens in a row: the position behind them when they stood there last."""
        self._indexed = _CONTEXT

    def propose(self, tokens: Sequence[int], limit: int) -> list[int]:
        """Return at most ``limit`` tokens that may follow ``tokens``."""
        # All but the last tokens themselves, which are what is looked for.
        for end in range(self._indexed, len(tokens)):
            self._behind[tuple(tokens[end - _CONTEXT : end])] = end
        self._indexed = max(self._indexed, len(tokens))
        start = self._behind.get(tuple(tokens[-_CONTEXT:]))
        return list(tokens[start : start + limit]) if start else []
