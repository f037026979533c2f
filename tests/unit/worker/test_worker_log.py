"""What a worker writes on standard error: logged line by line, quoted when it dies, never a burden."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from kylin_gguf.engine.worker_log import LevelFormatter, WorkerLog
from kylin_gguf.errors import WorkerDied


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest_asyncio.fixture
async def worker_log(clock: Clock, caplog: pytest.LogCaptureFixture) -> AsyncIterator[WorkerLog]:
    caplog.set_level(logging.DEBUG)
    made = WorkerLog("toy", clock)
    yield made
    made.handed_over()
    made.close()


def written(worker_log: WorkerLog, data: bytes) -> str:
    """Write ``data`` as a worker that dies of it, and return its last words."""
    os.write(worker_log.write_end, data)
    worker_log.close()
    return worker_log.last_words()


async def test_lines_are_logged_with_their_priority(
    worker_log: WorkerLog, caplog: pytest.LogCaptureFixture
) -> None:
    written(worker_log, b"<6>all is well\n<4>careful\n<3>broken\nraw\n<7>\n\nno newline at the end")
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (logging.INFO, "worker of toy: all is well"),
        (logging.WARNING, "worker of toy: careful"),
        (logging.ERROR, "worker of toy: broken"),
        (logging.WARNING, "worker of toy: raw"),
        (logging.WARNING, "worker of toy: no newline at the end"),
    ]


def test_the_workers_log_has_the_priority_on_every_line() -> None:
    record = logging.LogRecord("x", logging.ERROR, __file__, 1, "one\n%s", ("two",), None)
    assert LevelFormatter().format(record) == "<3>one\n<3>two"


async def test_an_abort_message_is_quoted_and_information_is_not(worker_log: WorkerLog) -> None:
    said = written(worker_log, b"<6>loaded\n<4>a hint\nggml.c:42: GGML_ASSERT(a == b) failed\n<6>goodbye\n")
    assert said == "ggml.c:42: GGML_ASSERT(a == b) failed"


async def test_of_a_traceback_the_exception_is_quoted(worker_log: WorkerLog) -> None:
    traceback = (
        b"Traceback (most recent call last):\n"
        b'  File "/x.py", line 1, in f\n    g(\n    ^^^\n'
        b"MemoryError: no room\n"
    )
    assert written(worker_log, traceback) == "MemoryError: no room"


async def test_what_was_said_long_before_is_not_quoted(worker_log: WorkerLog, clock: Clock) -> None:
    os.write(worker_log.write_end, b"a driver's complaint\n")
    while not worker_log.last_words():
        await asyncio.sleep(0)
    clock.now += 3600
    worker_log.close()
    assert worker_log.last_words() == ""


async def test_no_text_of_a_worker_steers_a_terminal(
    worker_log: WorkerLog, caplog: pytest.LogCaptureFixture
) -> None:
    said = written(worker_log, "\x1b]0;owned\x07 模型\r\xff\n".encode("latin-1", "ignore") + b"\xff\xfe\n")
    assert all(char.isprintable() for char in said)
    assert all(char.isprintable() for record in caplog.records for char in record.getMessage())


async def test_a_worker_that_says_much_is_not_held_up(
    worker_log: WorkerLog, caplog: pytest.LogCaptureFixture
) -> None:
    """Far more than a pipe holds, with a line as long as all of it; what is kept stays small."""
    logging.getLogger("kylin_gguf.engine.worker_log").setLevel(logging.CRITICAL)
    data = b"x" * 1_000_000 + b"\n" + b"noise\n" * 100_000 + b"the end\n"
    with os.fdopen(os.dup(worker_log.write_end), "wb", buffering=0) as pipe:
        remaining = memoryview(data)

        def write() -> None:
            nonlocal remaining
            while remaining:
                remaining = remaining[pipe.write(remaining) :]

        await asyncio.to_thread(write)
    logging.getLogger("kylin_gguf.engine.worker_log").setLevel(logging.NOTSET)
    assert len(worker_log._pending) < 4096
    worker_log.close()
    assert worker_log.last_words() == "noise; noise; the end"


def test_the_error_says_the_last_words_only_if_there_are_any() -> None:
    assert "last said" not in WorkerDied("toy", "SIGKILL").message()
    assert "SIGABRT" in WorkerDied("toy", "SIGABRT", "it broke").message()
    assert "it broke" in WorkerDied("toy", "SIGABRT", "it broke").message()
