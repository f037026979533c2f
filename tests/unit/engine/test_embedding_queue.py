"""Requests for vectors share a model in bounded batches, on a context that records instead of computing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from kylin_gguf.engine.embedding.context import Vectors
from kylin_gguf.engine.embedding.queue import MAX_WAITING, EmbeddingQueue, Request
from kylin_gguf.errors import Busy, DecodeFailed, InvalidValue, KylinError, TextTooLong


class FakeContext:
    """Gives a text's length as its vector; takes two texts at a time."""

    longest = 10

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.fail = False

    def fitting(self, lengths: Sequence[int]) -> int:
        return min(len(lengths), 2)

    def embed(self, texts: Sequence[Sequence[int]]) -> Vectors:
        if self.fail:
            raise DecodeFailed(-3)
        self.batches.append([len(tokens) for tokens in texts])
        return np.array([[len(tokens)] for tokens in texts], np.float32)


class Caller:
    """Asks for the vectors of texts of ``lengths`` and keeps what is reported."""

    def __init__(self, request_id: int, lengths: Sequence[int]) -> None:
        self.reports: list[tuple[list[float] | None, KylinError | None]] = []
        tokens = [[0] * length for length in lengths]
        self.request = Request(request_id, ["x" * length for length in lengths], tokens, self._report)

    def _report(self, vectors: Vectors | None, failure: KylinError | None) -> None:
        self.reports.append((None if vectors is None else vectors[:, 0].tolist(), failure))


@pytest.fixture
def context() -> FakeContext:
    return FakeContext()


@pytest.fixture
def queue(context: FakeContext) -> EmbeddingQueue:
    return EmbeddingQueue(context)  # type: ignore[arg-type]


def run(queue: EmbeddingQueue) -> None:
    while queue.has_work:
        queue.step()


def test_vectors_come_whole_and_in_order(queue: EmbeddingQueue, context: FakeContext) -> None:
    caller = Caller(1, [5, 4, 3, 2, 1])
    queue.submit(caller.request)
    run(queue)
    assert caller.reports == [([5.0, 4.0, 3.0, 2.0, 1.0], None)]
    assert context.batches == [[5, 4], [3, 2], [1]]


def test_a_short_request_does_not_wait_for_a_long_one(queue: EmbeddingQueue) -> None:
    long, short = Caller(1, [3] * 100), Caller(2, [7])
    queue.submit(long.request)
    queue.submit(short.request)
    queue.step()
    queue.step()
    assert short.reports == [([7.0], None)] and not long.reports
    run(queue)
    assert long.reports == [([3.0] * 100, None)]


def test_cancel_takes_effect_before_the_next_batch(queue: EmbeddingQueue, context: FakeContext) -> None:
    caller, other = Caller(1, [3] * 100), Caller(2, [1])
    queue.submit(caller.request)
    queue.submit(other.request)
    queue.step()
    queue.cancel(1)
    queue.cancel(99)  # never existed: nothing happens
    run(queue)
    assert caller.reports == [(None, None)] and other.reports == [([1.0], None)]
    assert context.batches == [[3, 3], [1]]


def test_a_failed_batch_ends_its_request_alone(queue: EmbeddingQueue, context: FakeContext) -> None:
    broken, whole = Caller(1, [3]), Caller(2, [4])
    queue.submit(broken.request)
    context.fail = True
    run(queue)
    context.fail = False
    queue.submit(whole.request)
    run(queue)
    ((vectors, error),) = broken.reports
    assert vectors is None and isinstance(error, DecodeFailed)
    assert whole.reports == [([4.0], None)]


def test_texts_that_do_not_fit_are_refused_with_the_numbers(queue: EmbeddingQueue) -> None:
    with pytest.raises(TextTooLong) as caught:
        queue.submit(Caller(1, [3, 11]).request)
    assert (caught.value.beginning, caught.value.tokens, caught.value.limit) == ("x" * 11, 11, 10)
    with pytest.raises(InvalidValue, match="''"):
        queue.submit(Caller(1, [3, 0]).request)
    assert not queue.has_work


def test_the_queue_is_bounded(queue: EmbeddingQueue) -> None:
    for number in range(MAX_WAITING):
        queue.submit(Caller(number, [1]).request)
    with pytest.raises(Busy):
        queue.submit(Caller(MAX_WAITING, [1]).request)
