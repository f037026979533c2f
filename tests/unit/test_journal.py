"""What is noted of commands that were carried out."""

from __future__ import annotations

import asyncio

import pytest

from kylin_gguf.errors import ExecutorTimeout, KylinError
from kylin_gguf.execution import KEPT_COMMANDS, Journal
from kylin_gguf.records import Execution


async def _end(end: Execution | BaseException) -> Execution:
    if isinstance(end, BaseException):
        raise end
    return end


async def test_the_ends_are_noted_the_latest_first() -> None:
    subject = Journal()
    await subject.follow("volume.set", _end(Execution("done", 40)))
    await subject.follow("wifi.on", _end(Execution("unavailable", reason="a secret")))
    for failure in (ExecutorTimeout("org.example.Slow", 30), asyncio.CancelledError()):
        with pytest.raises((KylinError, asyncio.CancelledError)):
            await subject.follow("own/note", _end(failure))
    noted = [(entry["command"], entry["status"], entry["code"]) for entry in subject.entries()]
    assert noted == [
        ("own/note", "failed", None),
        ("own/note", "failed", "actuator.executor-timeout"),
        ("wifi.on", "unavailable", None),
        ("volume.set", "done", None),
    ]
    assert {key for entry in subject.entries() for key in entry} == {
        "command",
        "status",
        "code",
        "at",
        "seconds",
    }, "neither arguments nor results"


async def test_old_ones_are_forgotten() -> None:
    subject = Journal()
    for number in range(KEPT_COMMANDS + 5):
        await subject.follow(f"a.{number}", _end(Execution("done")))
    assert len(subject.entries()) == KEPT_COMMANDS
    assert subject.entries()[0]["command"] == f"a.{KEPT_COMMANDS + 4}"
