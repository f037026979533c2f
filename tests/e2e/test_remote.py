"""A server's model with a real peer: llama.cpp's own server, of the same build, on this machine."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from kylin_gguf import native
from kylin_gguf.errors import ContextFull, RemoteFailed, of_code
from kylin_gguf.pool import EnginePool
from kylin_gguf.records import Entry, InstalledModel, Message, RemoteModel, Settings
from kylin_gguf.sessions import Session
from tests import tiny_embedder

from .conftest import ENDLESS, Reading, read_frames

pytestmark = pytest.mark.native

KEY = "sk-of-this-test"
CONTEXT = 512
READY_S = 60


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def llama_server(settings: Settings, model: Path, directory: Path, *options: str) -> Iterator[RemoteModel]:
    """llama-server with ``model``, as an entry of a catalogue would name it."""
    port = free_port()
    tool = native.find(settings).tool("llama-server")
    arguments = [
        "-m",
        model,
        "--port",
        str(port),
        "--api-key",
        KEY,
        "-t",
        "1",
        "-c",
        str(CONTEXT),
        "-np",
        "1",
    ]
    log = directory / "llama-server.log"
    with log.open("wb") as output:
        process = subprocess.Popen([tool, *arguments, *options], stdout=output, stderr=output, cwd=directory)
    (directory / "token").write_text(KEY)
    (directory / "token").chmod(0o600)
    try:
        _wait(process, f"http://127.0.0.1:{port}/health")
        yield RemoteModel("far", "Far", f"http://127.0.0.1:{port}/v1", "any", directory / "token")
    finally:
        process.terminate()
        process.wait(READY_S)
        print(log.read_text(encoding="utf-8", errors="replace"))  # pytest shows it when a test failed


def _wait(process: subprocess.Popen[bytes], url: str) -> None:
    for _ in range(READY_S * 10):
        assert process.poll() is None, "llama-server has ended"
        try:
            urllib.request.urlopen(url, timeout=5)
            return
        except (urllib.error.URLError, OSError):  # it listens before it is ready, and answers 503
            time.sleep(0.1)
    raise AssertionError("llama-server does not get ready")


@pytest.fixture(scope="module")
def far(
    settings: Settings, model: InstalledModel, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RemoteModel]:
    with llama_server(settings, model.path, tmp_path_factory.mktemp("far")) as found:
        yield found


async def ask(session: Session, prompt: str, **options: Any) -> list[dict[str, Any]]:
    frames = await read_frames(await session.generate({"prompt": prompt, **options}))
    return [frame for frame in frames if frame.get("code") != "loading"]


def text(frames: list[dict[str, Any]]) -> str:
    return "".join(frame["text"] for frame in frames if frame["type"] == "text")


async def test_it_answers_as_the_same_model_does_here(
    pool: EnginePool, model: InstalledModel, far: RemoteModel
) -> None:
    options = {"temperature": 0.0, "max_tokens": 4}  # of a longer answer
    here = await ask(Session(model, pool.acquire), "What is the capital of France?", **options)
    there = await ask(Session(far, pool.acquire), "What is the capital of France?", **options)
    assert text(there) == text(here)
    usage, expected = there[-2], here[-2]
    for key in ("prompt_tokens", "completion_tokens"):
        assert usage[key] == expected[key]
    assert there[-1] == here[-1] == {"type": "end", "reason": "length"}
    assert there[0]["code"] == "remote"


async def test_options_reach_it(pool: EnginePool, far: RemoteModel) -> None:
    session = Session(far, pool.acquire)
    schema = '{"type": "object", "properties": {"city": {"enum": ["Paris"]}}, "required": ["city"]}'
    frames = await ask(session, "Name a city.", json_schema=schema, max_tokens=40, temperature=0.0)
    assert "".join(text(frames).split()) == '{"city":"Paris"}'
    frames = await ask(session, "Count: 1, 2, 3, 4, 5.", max_tokens=30, temperature=0.0, stop=["3"])
    assert "3" not in text(frames)
    frames = await ask(session, "Hello", max_tokens=4, temperature=0.0, logprobs=2)
    told = [token for frame in frames if frame["type"] == "logprobs" for token in frame["tokens"]]
    assert "".join(token["text"] for token in told) == text(frames)
    assert all(len(token["top"]) == 2 for token in told)


async def test_a_conversation_is_shortened_until_it_fits(pool: EnginePool, far: RemoteModel) -> None:
    turns = [Message("user", "word " * 60), Message("assistant", "Yes. " * 20)] * 8
    session = Session(far, pool.acquire)
    session.set_context(list(map(Entry, turns)))
    frames = await ask(session, "And?", max_tokens=8)
    (trimmed,) = [frame for frame in frames if frame.get("code") == "trimmed"]
    assert 0 < trimmed["messages"] < 16 and frames[-1]["reason"] in ("stop", "length")
    refusing = Session(far, pool.acquire, overflow="refuse")
    refusing.set_context(list(map(Entry, turns)))
    error = (await ask(refusing, "And?"))[-2]
    assert isinstance(of_code(error["code"], error["message"]), ContextFull)


def slot(far: RemoteModel) -> dict[str, Any]:
    """Return what the server tells of its only slot."""
    request = urllib.request.Request(far.url.removesuffix("v1") + "slots")
    request.add_header("Authorization", f"Bearer {KEY}")
    with urllib.request.urlopen(request, timeout=READY_S) as answer:
        found: dict[str, Any] = json.load(answer)[0]
    return found


async def test_a_cancel_ends_its_work(pool: EnginePool, far: RemoteModel) -> None:
    endless = {name: ENDLESS[name] for name in ("prompt", "temperature", "seed")}
    story = await Session(far, pool.acquire).generate(endless | {"max_tokens": 400})
    reading = Reading(story)
    await reading.begun.wait()
    story.cancel()
    assert (await reading.frames)[-1] == {"type": "end", "reason": "cancelled"}
    async with asyncio.timeout(READY_S):
        while (found := await asyncio.to_thread(slot, far))["is_processing"]:
            await asyncio.sleep(0.05)
    assert found["n_prompt_tokens"] < 300, "it has written the whole story"


async def test_a_wrong_token_is_refused(pool: EnginePool, far: RemoteModel, tmp_path: Path) -> None:
    (tmp_path / "wrong").write_text("sk-wrong")
    (tmp_path / "wrong").chmod(0o600)
    wrong = RemoteModel("wrong", "", far.url, "any", tmp_path / "wrong")
    error = (await ask(Session(wrong, pool.acquire), "Hello"))[-2]
    assert isinstance(of_code(error["code"], error["message"]), RemoteFailed)
    assert "401" in error["message"] and "sk-wrong" not in error["message"]


async def test_vectors_are_those_of_the_same_model_here(
    settings: Settings, pool: EnginePool, tmp_path: Path
) -> None:
    tiny_embedder.bert(tmp_path / "bert.gguf")
    path = tmp_path / "bert.gguf"
    here = InstalledModel("bert", path, path.stat().st_size, writable=False)
    texts = ["the house stands on the hill", "rain"]
    with llama_server(settings, path, tmp_path, "--embeddings") as there:
        expected = await pool.ask(here, lambda engine: engine.embed(texts))
        found = await pool.ask(there, lambda engine: engine.embed(texts))
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, abs=2e-3)
