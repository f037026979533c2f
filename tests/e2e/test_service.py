"""The real service on a real bus with a real model, used as desktop programs use it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kylin_gguf.bus import names
from kylin_gguf.bus.client import Client
from kylin_gguf.errors import TextTooLong, WorkerDied
from kylin_gguf.records import InstalledModel, Settings
from tests import tiny_embedder

from .conftest import serving

pytestmark = pytest.mark.native

FOREIGN_CLIENT = Path(__file__).parent.parent / "bus" / "gdbus_stream.py"


@pytest.fixture(scope="module")
def environment(bus_address: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {
        **os.environ,
        "DBUS_SESSION_BUS_ADDRESS": bus_address,
        "KYLIN_GGUF_RUNTIME_DIR": str(tmp_path_factory.mktemp("run")),
        "KYLIN_GGUF_CONTEXT_LENGTH": "2048",
    }


@pytest.fixture(scope="module")
def service(
    environment: dict[str, str], model: InstalledModel, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    environment["KYLIN_GGUF_DEFAULT_MODEL"] = str(model.path)
    with serving(environment, tmp_path_factory.mktemp("service")):
        yield


@pytest.fixture
async def client(
    service: None, settings: Settings, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Client:
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", environment["DBUS_SESSION_BUS_ADDRESS"])
    return await Client.connect(settings, start=False)


def kylin_gguf(environment: dict[str, str], *arguments: str) -> str:
    """Run the command line and return what it printed on standard output."""
    command = [sys.executable, "-m", "kylin_gguf", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


def test_a_foreign_client_reads_an_answer_from_the_passed_descriptor(
    service: None, environment: dict[str, str]
) -> None:
    command = [sys.executable, FOREIGN_CLIENT, environment["DBUS_SESSION_BUS_ADDRESS"], "Say hello."]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    models, *lines, error = done.stdout.splitlines()
    assert "smollm2-135m-instruct" in models
    frames = [frame for frame in map(json.loads, lines) if frame["type"] != "notice"]
    assert frames[0]["type"] == "text"
    assert [frame["type"] for frame in frames[-2:]] == ["usage", "end"]
    assert error == f"{names.ERROR_PREFIX}Usage.UnknownOption"


async def test_killing_the_worker_ends_the_clients_stream_and_the_next_request_works(client: Client) -> None:
    await client.load()
    session = await client.create_session()
    answer = await session.generate("Tell me everything about the sea.", max_tokens=1500, temperature=1.3)
    frames = []
    async for frame in answer:
        frames.append(frame)
        if frame["type"] == "text" and not any(earlier["type"] == "text" for earlier in frames[:-1]):
            (loaded,) = (await client.properties())["LoadedModels"]
            os.kill(loaded["pid"], signal.SIGKILL)
    kinds = [frame["type"] for frame in frames]
    assert kinds[-2:] == ["error", "end"] and kinds.count("end") == kinds.count("error") == 1
    assert (frames[-2]["code"], frames[-1]["reason"]) == (WorkerDied.code, "error")
    after = [frame async for frame in await session.generate("Say hello.", max_tokens=8)]
    assert after[-1]["type"] == "end" and after[-1]["reason"] in ("stop", "length")
    await client.close()


async def test_a_client_that_leaves_the_bus_leaves_no_work_behind(client: Client, settings: Settings) -> None:
    session = await client.create_session()
    frames = aiter(
        await session.generate("Tell me everything about the sea.", max_tokens=1900, temperature=1.3)
    )
    await anext(frames)
    await client.close()  # the descriptor stays open: leaving the bus alone must end the work
    rest = [frame async for frame in frames]
    assert rest[-1] == {"type": "end", "reason": "cancelled"}
    observer = await Client.connect(settings, start=False)
    quick = [frame async for frame in await (await observer.create_session()).generate("Hello", max_tokens=4)]
    assert quick[-1]["type"] == "end"
    await observer.close()


@pytest.mark.parametrize(
    ("utterance", "command", "arguments"),
    [
        ("把音量调到百分之四十", "volume.set", {"level": 40}),
        ("set the brightness to 70%", "brightness.set", {"level": 70}),
        ("今天上班好累啊", None, {}),
    ],
)
def test_act_prints_one_command_or_null(
    service: None, environment: dict[str, str], utterance: str, command: str | None, arguments: dict[str, int]
) -> None:
    (line,) = kylin_gguf(environment, "act", "--json", utterance).splitlines()
    answer = json.loads(line)
    assert (answer["command"], answer["arguments"]) == (command, arguments)


def test_chat_streams_to_standard_output(service: None, environment: dict[str, str]) -> None:
    lines = kylin_gguf(environment, "chat", "Say hello.", "--max-tokens", "8", "--json").splitlines()
    kinds = [json.loads(line)["type"] for line in lines]
    assert "text" in kinds and kinds[-2:] == ["usage", "end"]


async def test_prewarm_makes_a_command_ready(client: Client) -> None:
    await client.prewarm()
    assert (await client.properties())["LoadedModels"]
    answer = await client.interpret("把音量调到百分之四十")
    assert answer["command"] == "volume.set"
    await client.close()


async def test_vectors_come_over_the_bus_and_on_standard_output(
    client: Client, environment: dict[str, str], tmp_path: Path
) -> None:
    model = tmp_path / "tiny-bert.gguf"
    tiny_embedder.bert(model)
    texts = ["the cat sleeps", "rain", "天气"] * 30  # more than the client sends at once
    vectors = [vector async for vector in client.embed(texts, str(model))]
    assert {len(vector) for vector in vectors} == {tiny_embedder.WIDTH}
    assert vectors[2] == pytest.approx(vectors[-1], abs=1e-4) != pytest.approx(vectors[1], abs=1e-4)
    with pytest.raises(TextTooLong, match="the cat"):
        await anext(client.embed(["the cat " * 1000], str(model)))
    (line,) = kylin_gguf(environment, "embed", "--json", "-m", str(model), "天气").splitlines()
    assert json.loads(line)["vector"] == pytest.approx(vectors[2], abs=1e-4)
    await client.unload(str(model))
    await client.close()
