"""The mode "assistant" with a real model: what is no command is chat, in the same conversation."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
import pytest_asyncio

from kylin_gguf import catalogue
from kylin_gguf.records import ADAPTER, Execution, ExecutorAddress, Settings
from kylin_gguf.service import Service
from kylin_gguf.store import Store
from tests.e2e.conftest import MODEL, read_frames

pytestmark = pytest.mark.native


@pytest.fixture
def done() -> list[tuple[str, Mapping[str, Any]]]:
    return []


@pytest_asyncio.fixture
async def service(settings: Settings, done: list[tuple[str, Mapping[str, Any]]]) -> AsyncIterator[Service]:
    made = Service(settings, Store(settings, catalogue.load(settings.catalogue)))

    async def call(executor: ExecutorAddress, command: Mapping[str, Any]) -> Execution:
        assert executor == ADAPTER
        done.append((command["command"], command["arguments"]))
        return Execution("done", value=50)

    made.call_executor = call
    yield made
    await made.close()


async def test_commands_and_chat_in_one_conversation(
    service: Service, done: list[tuple[str, Mapping[str, Any]]]
) -> None:
    session = await service.create_session({"model": MODEL})

    async def say(prompt: str) -> list[dict[str, Any]]:
        options = {"prompt": prompt, "mode": "assistant", "max_tokens": 24, "temperature": 0}
        return await read_frames(await session.generate(options))

    first = await say("把音量调到百分之四十")
    assert [f["type"] for f in first] == ["command", "result", "text", "end"]
    chat = await say("Tell me a short story about a cat.")
    kinds = [f["type"] for f in chat if f["type"] != "notice"]
    assert kinds[0] == "text" and kinds[-2:] == ["usage", "end"]
    assert not {"command", "result", "question"} & set(kinds)
    again = await say("再大一点")
    assert "command" not in [f["type"] for f in again], "it goes on about the story, if about anything"
    last = await say("turn the volume down to 20 percent")
    assert [f["arguments"] for f in last if f["type"] == "command"] == [{"level": 20}]
    assert done == [("volume.set", {"level": 40}), ("volume.set", {"level": 20})]
    roles = [message.role for message in session.conversation.context()]
    assert roles == ["user", "assistant"] * 4
