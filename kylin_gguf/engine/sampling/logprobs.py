"""How probable the drawn tokens were, for clients that ask."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from kylin_gguf.engine.context import Logits
from kylin_gguf.engine.sampling.candidates import highest
from kylin_gguf.engine.vocabulary import Vocabulary
from kylin_gguf.frames import Frame

_MAX_ENTRIES = 32
"""Tokens and alternatives of one frame. As with text, a frame must be small enough never to be cut in two."""


class LogProbs:
    """Collects the tokens of the next ``logprobs`` frames."""

    def __init__(self, vocabulary: Vocabulary, top: int) -> None:
        """``top``: how many of the likeliest tokens to list for each."""
        self._vocabulary, self._top = vocabulary, top
        self._tokens: list[Frame] = []

    def add(self, logits: Logits, token: int) -> None:
        """Note that ``token`` was drawn from ``logits``, shape (vocab_size,)."""
        best = float(logits.max())
        log_sum = best + float(np.log(np.exp(logits - best).sum(dtype=np.float64)))
        ids = highest(logits, self._top) if self._top else np.empty(0, np.int32)
        ranked = ids[np.argsort(-logits[ids], kind="stable")][: self._top]
        top = [self._entry(int(other), logits, log_sum) for other in ranked]
        self._tokens.append({**self._entry(token, logits, log_sum), "top": top})

    def _entry(self, token: int, logits: Logits, log_sum: float) -> Frame:
        text = self._vocabulary.piece(token, special=True).decode("utf-8", "replace")
        # A logit of minus infinity has no number in JSON; this one's exponential is 0 in any precision.
        return {"text": text, "logprob": round(max(float(logits[token]) - log_sum, -9999.0), 4)}

    def take(self) -> Iterator[list[Frame]]:
        """Yield the collected tokens in parts that fit a frame, and forget them."""
        tokens, self._tokens = self._tokens, []
        each = _MAX_ENTRIES // (self._top + 1)
        yield from (tokens[at : at + each] for at in range(0, len(tokens), each))
