"""Executors as the service calls them: what they answer, and what happens when they do not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from kylin_gguf.bus import contract, executor, names
from kylin_gguf.bus.connection import Connection
from kylin_gguf.bus.dispatch import Dispatcher
from kylin_gguf.bus.executor import Executors
from kylin_gguf.bus.registry import Published, Registry
from kylin_gguf.errors import ExecutorFailed, ExecutorTimeout, InvalidValue, ServiceUnavailable
from kylin_gguf.records import ADAPTER, Execution, ExecutorAddress

PATH = "/org/test/Executor"


class FakeExecutor(Published):
    """Answers with what ``answer`` makes of the command."""

    interfaces = (names.EXECUTOR,)
    answer: Callable[[dict[str, Any]], Any] = staticmethod(lambda command: {"status": "done"})

    async def execute(self, _: str, command: dict[str, Any]) -> Any:
        found = self.answer(command)
        return await found if asyncio.iscoroutine(found) else found


@pytest.fixture
async def fake(bus_address: str) -> AsyncIterator[FakeExecutor]:
    registry = Registry(await Connection.connect(bus_address), contract.load())
    dispatcher = Dispatcher(registry)
    yield registry.add(FakeExecutor(registry, PATH))
    await dispatcher.close()
    await registry.connection.close()


@pytest.fixture
async def executors(bus_address: str) -> AsyncIterator[Executors]:
    connection = await Connection.connect(bus_address)

    async def refuse(_: Connection) -> None:
        raise ServiceUnavailable("it is not installed")

    yield Executors(connection, refuse)
    await connection.close()


def address(fake: FakeExecutor) -> ExecutorAddress:
    return ExecutorAddress(fake.registry.connection.unique_name, PATH)


COMMAND = {"command": "lamp.level", "arguments": {"level": 40, "share": 0.5, "name": "灯"}, "kylin": None}


async def test_a_command_arrives_whole_and_its_result_comes_back(
    executors: Executors, fake: FakeExecutor
) -> None:
    heard = []
    fake.answer = lambda command: (
        heard.append(command)
        or {  # type: ignore[func-returns-value]
            "status": "done",
            "value": 40,
            "text": {"zh": "好", "en": "Done"},
            "more": 1,
        }
    )
    found = await executors.call(address(fake), COMMAND)
    assert found == Execution("done", 40, "", {"zh": "好", "en": "Done"})
    assert heard == [{"command": "lamp.level", "arguments": {"level": 40, "share": 0.5, "name": "灯"}}]


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"status": "great"},
        {"status": "done", "value": ["a"]},
        {"status": "done", "text": "words"},
        {"status": "done", "text": {"zh": 1}},
        {"status": "failed", "reason": 7},
        {"status": "failed", "reason": "x" * 2000},
    ],
)
async def test_an_answer_that_is_none_is_a_failure(
    executors: Executors, fake: FakeExecutor, answer: dict[str, Any]
) -> None:
    fake.answer = lambda _: answer
    with pytest.raises(ExecutorFailed):
        await executors.call(address(fake), COMMAND)


async def test_an_error_is_a_failure_that_quotes_it(executors: Executors, fake: FakeExecutor) -> None:
    def refuse(_: dict[str, Any]) -> None:
        raise InvalidValue("level", "x", "a number")

    fake.answer = refuse
    with pytest.raises(ExecutorFailed, match="not a valid value"):
        await executors.call(address(fake), COMMAND)


async def test_silence_is_given_up(
    executors: Executors, fake: FakeExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor, "TIMEOUT_S", 0.2)
    fake.answer = lambda _: asyncio.sleep(60)
    with pytest.raises(ExecutorTimeout):
        await executors.call(address(fake), COMMAND)
    fake.answer = lambda _: {"status": "done"}
    assert (await executors.call(address(fake), COMMAND)).status == "done"


async def test_an_executor_that_leaves_during_the_call(executors: Executors, fake: FakeExecutor) -> None:
    async def leave() -> None:
        await fake.registry.connection.close()

    fake.answer = lambda _: leave()
    with pytest.raises(ExecutorFailed):
        await asyncio.wait_for(executors.call(address(fake), COMMAND), 20)


async def test_who_is_not_there_is_a_failure(executors: Executors) -> None:
    with pytest.raises(ExecutorFailed):
        await executors.call(ExecutorAddress(":1.99999", PATH), COMMAND)
    with pytest.raises(ExecutorFailed, match="not installed"):
        await executors.call(ADAPTER, COMMAND)
