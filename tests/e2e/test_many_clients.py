"""Sixty-four clients that stream at once from one small model."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from kylin_gguf.bus.client import Client
from kylin_gguf.records import InstalledModel
from tests.e2e import daemon

pytestmark = pytest.mark.native

CLIENTS = 64
TOKENS = 24
GROWTH = 32 << 20
"""Bytes that the service may grow by: half a megabyte for each client's connection, session and request."""


async def stream(client: Client, number: int) -> tuple[list[dict[str, Any]], str]:
    """Return the frames of an answer, and the answer as the session has it."""
    session = await client.create_session()
    answer = await session.generate(f"Count from {number}.", max_tokens=TOKENS, temperature=1.0, seed=number)
    frames = []
    async for frame in answer:
        frames.append(frame)
        if number % 8 == 0:
            await asyncio.sleep(0.05)  # some read slowly
    async with asyncio.timeout(20):  # the service hears of the end a moment after the client
        while len(messages := await session.messages()) < 2:
            await asyncio.sleep(0.02)
    await session.close()
    return frames, messages[-1].content


async def test_no_frame_is_lost_or_out_of_order_and_nothing_stays(
    tmp_path: Path, model: InstalledModel
) -> None:
    async with daemon.running(tmp_path, model, context_length=2048) as service:
        async with service.client() as first:
            await first.load()
            await stream(first, 0)
        async with service.client() as observer:
            await observer.list_models()
            before, resident = service.descriptors(), service.resident()
            async with AsyncExitStack() as stack:
                clients = [await stack.enter_async_context(service.client()) for _ in range(CLIENTS)]
                answers = await asyncio.gather(
                    *(stream(client, number) for number, client in enumerate(clients, 1))
                )
                grown = service.resident() - resident
            await daemon.until(lambda: service.descriptors() <= before)
    for frames, said in answers:
        kinds = [frame["type"] for frame in frames if frame["type"] != "notice"]
        assert kinds[-2:] == ["usage", "end"] and set(kinds[:-2]) == {"text"}
        assert frames[-1]["reason"] in ("stop", "length")
        assert "".join(frame["text"] for frame in frames if frame["type"] == "text") == said
        assert 0 < frames[-2]["completion_tokens"] <= TOKENS
    positions = [frame["position"] for frames, _ in answers for frame in frames if "position" in frame]
    assert max(positions) > CLIENTS / 2, "they were there at once"
    assert grown < GROWTH
