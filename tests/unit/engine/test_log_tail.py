"""What llama.cpp logs: kept to explain failures, and not held against a decode that was given up."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from kylin_gguf.engine.model import LogTail
from kylin_gguf.errors import LoadFailed, OutOfMemory

WARNING, ERROR = 3, 4
MODEL = Path("m.gguf")


def test_the_last_lines_are_the_reason(caplog: pytest.LogCaptureFixture) -> None:
    tail = LogTail(lines=2)
    for text in ("one", "two\n", " ", "three"):
        tail(ERROR, text)
    tail(2, "information")
    assert tail.failure(MODEL).reason == "two; three"
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 3


def test_what_came_while_it_held_is_forgotten_or_said_late(caplog: pytest.LogCaptureFixture) -> None:
    tail = LogTail()
    tail.hold()
    tail(ERROR, "graph_compute failed")
    tail.release(forget=True)
    assert (tail.failure(MODEL).reason, caplog.records) == ("llama.cpp gave no reason", [])
    tail.hold()
    tail(WARNING, "out of memory")
    assert not caplog.records
    tail.release(forget=False)
    tail(ERROR, "now at once")
    assert tail.failure(MODEL).reason == "out of memory; now at once"
    assert [record.levelno for record in caplog.records] == [logging.WARNING, logging.ERROR]


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("alloc_tensor_range: failed to allocate Vulkan0 buffer of size 5242880", OutOfMemory),
        ("error loading model: unable to allocate CUDA0 buffer", OutOfMemory),
        ("error loading model: vk::Device::allocateMemory: ErrorOutOfDeviceMemory", OutOfMemory),
        ("cannot allocate memory for thread-local data: ABORT", OutOfMemory),
        ("libgomp.so.1: cannot allocate memory in static TLS block", LoadFailed),
        ("error loading model: unknown model architecture: 'x'", LoadFailed),
    ],
)
def test_want_of_memory_is_told_apart(line: str, kind: type[LoadFailed]) -> None:
    tail = LogTail(lines=1)
    tail(ERROR, line)
    tail(ERROR, "llama_model_load_from_file_impl: failed to load model")
    assert type(tail.failure(MODEL)) is kind
