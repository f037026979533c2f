"""Threads kept off the processor of another."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from kylin_gguf.engine import apart as module
from kylin_gguf.engine.apart import apart


@contextmanager
def _sleeper() -> Iterator[int]:
    """A thread that sleeps, and its number."""
    end = threading.Event()
    thread = threading.Thread(target=end.wait)
    thread.start()
    try:
        assert thread.native_id
        yield thread.native_id
    finally:
        end.set()
        thread.join()


def test_others_may_not_run_where_this_thread_runs_and_then_may_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    allowed = os.sched_getaffinity(0)
    here = min(allowed)
    monkeypatch.setattr(module._libc, "sched_getcpu", lambda: here)
    with _sleeper() as other:
        with apart():
            assert os.sched_getaffinity(other) == (allowed - {here} or allowed)
            assert os.sched_getaffinity(0) == allowed
        assert os.sched_getaffinity(other) == allowed


def test_a_single_processor_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    placed: list[int] = []
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3})
    monkeypatch.setattr(os, "sched_setaffinity", lambda thread, _: placed.append(thread))
    monkeypatch.setattr(module._libc, "sched_getcpu", lambda: 3)
    with _sleeper(), apart():
        pass
    assert placed == []


def test_what_the_threads_may_use_is_given_back_after_an_error() -> None:
    allowed = os.sched_getaffinity(0)
    with _sleeper() as other:
        with pytest.raises(KeyError), apart():
            raise KeyError
        assert os.sched_getaffinity(other) == allowed
