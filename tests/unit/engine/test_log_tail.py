"""What llama.cpp logs: kept to explain failures, and not held against a decode that was given up."""

from __future__ import annotations

import logging

import pytest

from kylin_gguf.engine.model import LogTail

WARNING, ERROR = 3, 4


def test_the_last_lines_are_the_reason(caplog: pytest.LogCaptureFixture) -> None:
    tail = LogTail(lines=2)
    for text in ("one", "two\n", " ", "three"):
        tail(ERROR, text)
    tail(2, "information")
    assert tail.reason() == "two; three"
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 3


def test_what_came_while_it_held_is_forgotten_or_said_late(caplog: pytest.LogCaptureFixture) -> None:
    tail = LogTail()
    tail.hold()
    tail(ERROR, "graph_compute failed")
    tail.release(forget=True)
    assert (tail.reason(), caplog.records) == ("llama.cpp gave no reason", [])
    tail.hold()
    tail(WARNING, "out of memory")
    assert not caplog.records
    tail.release(forget=False)
    tail(ERROR, "now at once")
    assert tail.reason() == "out of memory; now at once"
    assert [record.levelno for record in caplog.records] == [logging.WARNING, logging.ERROR]
