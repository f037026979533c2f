"""A model whose worker dies while loading is tried less and less often."""

from __future__ import annotations

import pytest

from kylin_gguf.engine.backoff import Backoff
from kylin_gguf.errors import RestartDelayed, WorkerDied

DEATH = WorkerDied("toy", "SIGABRT", "it broke")


def wait_after(failures: int) -> RestartDelayed:
    backoff = Backoff()
    for _ in range(failures):
        backoff.failed(DEATH, now=50.0)
    with pytest.raises(RestartDelayed) as caught:
        backoff.check("toy", now=50.0)
    backoff.check("toy", now=50.0 + caught.value.retry_s)
    return caught.value


def test_a_fresh_model_starts_at_once() -> None:
    Backoff().check("toy", now=0.0)


def test_the_wait_doubles_to_a_limit() -> None:
    assert [wait_after(count).retry_s for count in (1, 2, 3, 4, 9, 10, 2000)] == [1, 2, 4, 8, 256, 300, 300]


def test_the_error_says_when_and_why() -> None:
    error = wait_after(3)
    assert error.fields() == {
        "model": "toy",
        "failures": 3,
        "retry_s": 4,
        "reason": DEATH.statement(),
    }
    assert DEATH.remedy not in error.message(), "'ask again' would contradict it"


def test_a_part_of_a_second_is_rounded_up() -> None:
    backoff = Backoff()
    backoff.failed(DEATH, now=0.0)
    with pytest.raises(RestartDelayed) as caught:
        backoff.check("toy", now=0.9)
    assert caught.value.retry_s == 1
