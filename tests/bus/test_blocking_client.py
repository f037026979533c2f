"""The client library for programs without an event loop, against the real service."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TypeVar

import pytest

from kylin_gguf import client, errors
from kylin_gguf.client import BlockingClient
from tests.bus import echo

T = TypeVar("T")


@pytest.fixture
async def serving(tmp_path: Path, bus_address: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", bus_address)
    async with echo.serving(echo.settings(tmp_path), bus_address):
        yield


async def blocking(work: Callable[[BlockingClient], T]) -> T:
    """Run ``work`` with a client in a thread, as the service has this one's event loop."""

    def run() -> T:
        with BlockingClient() as made:
            return work(made)

    result = await asyncio.wait_for(asyncio.to_thread(run), 20)
    assert not loops()
    return result


def loops() -> list[threading.Thread]:
    """Return the threads of clients."""
    return [thread for thread in threading.enumerate() if thread.name == "kylin-gguf"]


@pytest.mark.usefixtures("serving")
async def test_models_and_conversations() -> None:
    def work(made: BlockingClient) -> None:
        assert {"first", "second"} <= {model["name"] for model in made.list_models()}
        assert made.properties()["DefaultModel"] == "first"
        session = made.create_session(system="Be brief.", keep=True)
        assert list(session.generate("你好").texts()) == ["first:2", " 你好"]
        session.set_model("second")
        assert (session.model(), session.complete("b")) == ("second", "second:4 b")
        session.select_context([entry.id for entry in session.entries()][1:3])
        document = session.export()
        session.clear()
        session.import_(document)
        assert session.complete("c") == "second:4 c"
        session.set_context([])
        assert session.complete("d") == "second:1 d"
        kept_as = session.kept_as()
        session.close()
        assert [one["id"] for one in made.list_sessions()] == [kept_as]
        assert made.ask(kept_as, "e") == "second:3 e"
        assert made.open_session(kept_as, "first").complete("f") == "first:5 f"
        made.delete_session(kept_as)
        assert made.list_sessions() == []
        with pytest.raises(errors.UnknownModel):
            made.load("nobody")

    await blocking(work)


@pytest.mark.usefixtures("serving")
async def test_a_cancelled_answer_ends_and_a_closed_one_stops() -> None:
    def work(made: BlockingClient) -> None:
        session = made.create_session()
        answer = session.generate("FOREVER")
        assert [next(answer)["text"] for _ in range(2)] == ["first:1", " FOREVER"]
        answer.cancel()
        assert [frame["type"] for frame in answer] == ["end"]
        with session.generate("FOREVER") as left:
            next(left)
        with pytest.raises(errors.Cancelled):
            for _ in (cancelled := made.create_session().generate("FOREVER")).texts():
                cancelled.cancel()

    await blocking(work)
    async with asyncio.timeout(20):
        while echo.EchoEngine.running:
            await asyncio.sleep(0.01)


INTERRUPTED = """
import signal, sys
from kylin_gguf.client import BlockingClient

enough, seen, waiting = int(sys.argv[1]), 0, False

def interrupt(*_):
    global seen, waiting
    seen += 1
    if waiting:
        waiting = False
        raise KeyboardInterrupt

signal.signal(signal.SIGINT, interrupt)
with BlockingClient() as client:
    answer = client.create_session().generate("FOREVER")
    print("begun", flush=True)
    while seen < enough:
        try:
            waiting = True
            for _ in answer:
                pass
        except KeyboardInterrupt:
            pass
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # more are on their way, also when Python winds down
    answer.cancel()
    print([frame["type"] for frame in answer], flush=True)
"""


@pytest.mark.usefixtures("serving")
async def test_no_interruption_stops_the_client_for_good() -> None:
    """Whatever a Ctrl-C comes into the midst of, the answer goes on, can be cancelled, and ends."""
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-c", INTERRUPTED, "2000", stdout=asyncio.subprocess.PIPE
    )
    assert program.stdout
    try:
        async with asyncio.timeout(60):
            assert await program.stdout.readline() == b"begun\n"
            last = asyncio.ensure_future(program.stdout.readline())
            while not last.done():
                program.send_signal(signal.SIGINT)
                await asyncio.sleep(0)
            assert (await last).endswith(b"'end']\n")
            assert await program.wait() == 0
    finally:
        if program.returncode is None:
            program.kill()
            await program.wait()


@pytest.mark.usefixtures("serving")
async def test_the_same_with_asyncio() -> None:
    async with await client.connect() as made:
        session = await made.create_session()
        answer = await session.generate("你好")
        assert [text async for text in answer.texts()] == ["first:1", " 你好"]
        answer = await session.generate("FOREVER")
        with pytest.raises(errors.Cancelled):
            async for _ in answer.texts():
                await answer.cancel()
        await (await session.generate("FOREVER")).close()
        async with asyncio.timeout(20):
            while echo.EchoEngine.running:
                await asyncio.sleep(0.01)


async def test_a_service_that_does_not_run_is_an_error(
    bus_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", bus_address)
    with pytest.raises(errors.ServiceUnavailable):
        await asyncio.to_thread(BlockingClient, start=False)
    assert not loops()
