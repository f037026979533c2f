"""Requests for vectors, a bounded batch of one of them at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from kylin_gguf.engine.embedding.context import Vectors
from kylin_gguf.errors import Busy, InvalidValue, KylinError, TextTooLong

MAX_WAITING = 64
_SHOWN = 30  # characters of a text in an error


class Embedder(Protocol):
    """A context that makes one vector of a text."""

    @property
    def longest(self) -> int:
        """Tokens of the longest text."""

    def fitting(self, lengths: Sequence[int]) -> int:
        """Return how many of the next texts, at least one, go into one batch, given their ``lengths``."""

    def embed(self, texts: Sequence[Sequence[int]]) -> Vectors:
        """Return one vector for the tokens of each text, shape (len(texts), dimensions)."""


Report = Callable[[Vectors | None, KylinError | None], None]


class Request:
    """A list of texts, of which some have their vectors."""

    def __init__(
        self, request_id: int, texts: Sequence[str], tokens: Sequence[Sequence[int]], report: Report
    ) -> None:
        """``tokens`` has those of each text. ``report`` is called once: with the vectors in the order of
        ``texts``, shape (texts, dimensions); with an error; or with neither after a cancellation."""
        self.id, self.texts, self.tokens, self.report = request_id, texts, tokens, report
        self.cancelled = False
        self.done = 0
        """How many of ``texts`` have their vectors."""
        self.vectors: list[Vectors] = []


class EmbeddingQueue:
    """Texts that wait for their vectors. Requests take turns: a short list does not wait for a long one."""

    def __init__(self, context: Embedder) -> None:
        self._context = context
        self._waiting: deque[Request] = deque()
        self.texts = 0
        """How many have their vectors."""

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def has_work(self) -> bool:
        """Whether ``step`` would do something now."""
        return bool(self._waiting)

    def submit(self, request: Request) -> None:
        """Queue ``request``.

        Raises:
            TextTooLong: a text does not fit the model's context.
            InvalidValue: a text has no token.
            Busy: the queue is full.
        """
        for text, tokens in zip(request.texts, request.tokens, strict=True):
            if len(tokens) > self._context.longest:
                raise TextTooLong(text[:_SHOWN], len(tokens), self._context.longest)
            if not tokens:
                raise InvalidValue("texts", repr(text), "texts that the model has tokens for")
        if len(self._waiting) >= MAX_WAITING:
            raise Busy("waiting requests", MAX_WAITING)
        self._waiting.append(request)

    def cancel(self, request_id: int) -> None:
        """End a request at the next step; unknown ids have ended already."""
        for request in self._waiting:
            if request.id == request_id:
                request.cancelled = True

    def step(self) -> None:
        """Compute one batch of the request whose turn it is."""
        request = self._waiting.popleft()
        if request.cancelled:
            request.report(None, None)
            return
        rest = request.tokens[request.done :]
        count = self._context.fitting([len(tokens) for tokens in rest])
        try:
            request.vectors.append(self._context.embed(rest[:count]))
        except KylinError as error:
            request.report(None, error)
            return
        request.done += count
        self.texts += count
        if request.done < len(request.texts):
            self._waiting.append(request)
        else:
            request.report(np.concatenate(request.vectors), None)
