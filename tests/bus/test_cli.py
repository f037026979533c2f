"""The commands that talk to the service, run as processes against a service without a model."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from kylin_gguf.bus.server import Server
from tests.bus.fake_service import FakeService

Run = Callable[..., Awaitable[tuple[int, str, str]]]


@pytest.fixture
def environment(server: Server, bus_address: str, tmp_path: Path) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    return kept | {"DBUS_SESSION_BUS_ADDRESS": bus_address, "HOME": str(tmp_path), "LC_ALL": "C.UTF-8"}


@pytest.fixture
def run(environment: dict[str, str]) -> Run:
    """A function that runs the program and returns its status, output and complaints."""

    async def run(*arguments: str, text: str | bytes = "") -> tuple[int, str, str]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "kylin_gguf", *arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
        )
        given = text if isinstance(text, bytes) else text.encode()
        output, complaints = await process.communicate(given)
        return process.returncode or 0, output.decode(), complaints.decode()

    return run


async def test_one_question(run: Run) -> None:
    assert await run("chat", "你好 world") == (0, "你好world\n", "")


async def test_question_from_stdin_and_statistics(run: Run) -> None:
    status, output, complaints = await run("chat", "--stats", text="from a pipe")
    assert (status, output.strip()) == (0, "fromapipe")
    assert "100.0 tokens/s" in complaints


async def test_frames_for_programs(run: Run) -> None:
    status, output, _ = await run("chat", "a b", "--json", "--temperature", "0", "--stop", "x", "--stop", "y")
    frames = [json.loads(line) for line in output.splitlines()]
    assert status == 0
    assert [frame["type"] for frame in frames] == ["text", "text", "usage", "end"]


async def test_model_cannot_steer_the_terminal(run: Run) -> None:
    status, output, _ = await run("chat", "a\x1b[31mb\x9bc")
    assert (status, output) == (0, "a[31mbc\n")


async def test_bad_option_value_has_the_usage_status(run: Run) -> None:
    status, output, complaints = await run("chat", "x", "--temperature", "99")
    assert (status, output) == (2, "")
    assert complaints.startswith("kylin-gguf: '99.0' is not a valid value for temperature")
    assert len(complaints.splitlines()) == 1


async def test_interruption_stops_a_single_answer(environment: dict[str, str], service: FakeService) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "kylin_gguf", "chat", "FOREVER"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
    )
    assert process.stdout is not None
    assert await process.stdout.readexactly(7) == b"FOREVER"
    process.send_signal(signal.SIGINT)
    _, complaints = await process.communicate()
    assert process.returncode == 130
    assert complaints.decode() == "kylin-gguf: Cancelled.\n"
    assert service.sessions[0].generations[0].cancelled.is_set()


async def test_conversation_on_a_terminal(
    environment: dict[str, str], service: FakeService, tmp_path: Path
) -> None:
    leader, follower = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "kylin_gguf", "chat"),
        stdin=follower,
        stdout=follower,
        stderr=follower,
        env=environment | {"TERM": "dumb"},
        start_new_session=True,
    )
    os.close(follower)
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    with os.fdopen(leader, "r+b", buffering=0) as terminal:
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), terminal)

        async def expect(text: str) -> None:
            await asyncio.wait_for(reader.readuntil(text.encode()), 30)

        async def say(text: str) -> None:
            await expect("> ")
            os.write(leader, f"{text}\n".encode())

        await say("hello there")
        await expect("hellothere")
        await say("FOREVER")
        await expect("FOREVER\r\n")
        await expect("FOREVER")
        process.send_signal(signal.SIGINT)
        await say("/claer")
        await expect("did you mean /clear")
        await say("/clear")
        await say("/system Be brief.")
        await say("/system")
        await expect("Be brief.")
        await say("/model nobody")
        await expect("no model named 'nobody'")
        await say("/model vectors")
        await expect("vectors")
        await say('"""again')
        await expect(". ")
        os.write(leader, b'and on"""\n')
        await expect("againandon")
        await say("/save")
        await expect("not a valid value for /save")
        await say(f"/save {tmp_path}/talk.json")
        await expect("talk.json.")
        await say("/clear")
        await say(f"/load {tmp_path}/none.json")
        await expect("none.json")
        (tmp_path / "deep.json").write_text("[" * 100_000)
        await say(f"/load {tmp_path}/deep.json")
        await expect("a conversation that /save has written")
        await say(f"/load {tmp_path}/talk.json")
        await say("/exit")
        assert await asyncio.wait_for(process.wait(), 30) == 0
    session = service.sessions[0]
    assert [entry.message.content for entry in session.conversation.entries] == ["Be brief.", "again\nand on"]
    assert session.model.name == "vectors"
    history = tmp_path / ".local/state/kylin-gguf/chat_history"
    assert "hello there" in history.read_text(encoding="utf-8").splitlines()
    assert history.stat().st_mode & 0o777 == 0o600


async def test_act(run: Run) -> None:
    status, output, _ = await run("act", "--json", "把音量调到百分之四十")
    found = json.loads(output)
    assert status == 0
    assert (found["command"], found["arguments"]) == ("volume.set", {"level": 40})
    assert found["kylin"] == {"name": "音量控制", "value": "set"}
    status, output, _ = await run("act", "who are you?", "--json")
    assert json.loads(output)["command"] is None
    assert (await run("act", "louder"))[1] == "volume.set level=40  97%\n"


async def test_vectors_of_arguments_and_of_lines(run: Run) -> None:
    status, output, _ = await run("embed", "--json", "-m", "vectors", "天气", "rain")
    assert status == 0
    assert [json.loads(line) for line in output.splitlines()] == [
        {"text": "天气", "vector": [2.0, 0.5]},
        {"text": "rain", "vector": [4.0, 0.5]},
    ]
    lines = "\n".join("x" * length for length in range(1, 101))
    status, output, _ = await run("embed", "-m", "vectors", "--lines", "-", text=lines + "\n")
    assert (status, output.splitlines()) == (0, [f"{length} 0.5" for length in range(1, 101)])


async def test_vectors_of_nothing_and_of_a_model_without_any(run: Run) -> None:
    assert (await run("embed"))[:2] == (2, "")
    assert (await run("embed", "a", "--lines", "-"))[:2] == (2, "")
    assert (await run("embed", "--lines", "absent.txt"))[0] == 13
    status, _, complaints = await run("embed", "-m", "echo", "a")
    assert (status, len(complaints.splitlines())) == (16, 1)


async def test_act_on_a_batch_keeps_order(run: Run) -> None:
    lines = [{"id": n, "utterance": "why?" if n % 2 else "louder"} for n in range(6)]
    text = "\n".join(json.dumps(line) for line in lines)
    status, output, _ = await run("act", "--batch", "-", "--json", text=text)
    found = [json.loads(line) for line in output.splitlines()]
    assert status == 0
    assert [one["id"] for one in found] == list(range(6))
    assert [one["command"] for one in found] == ["volume.set", None] * 3


async def test_only_a_newline_ends_a_line_of_a_batch(run: Run) -> None:
    line = json.dumps({"id": 1, "utterance": "louder\u2028and\x85louder"}, ensure_ascii=False)
    status, output, _ = await run("act", "--batch", "-", "--json", text=f"{line}\r\n\n")
    assert (status, json.loads(output)["id"]) == (0, 1)


@pytest.mark.parametrize("command", [["chat"], ["act", "--batch", "-"], ["embed", "--lines", "-"]])
async def test_what_is_no_text_is_refused(run: Run, environment: dict[str, str], command: list[str]) -> None:
    environment["PYTHONIOENCODING"] = "utf-8:strict"  # as in the locales of most users
    status, output, complaints = await run(*command, text=b"\xff\xfe")
    assert (status, output, len(complaints.splitlines())) == (13, "", 1)


@pytest.mark.parametrize("line", ["not json", "[]", '{"id": 1}', '"text"'])
async def test_act_refuses_a_bad_batch(run: Run, line: str) -> None:
    status, output, complaints = await run("act", "--batch", "-", text=f"{line}\n")
    assert (status, output) == (2, "")
    assert "-:1" in complaints


async def test_status(run: Run) -> None:
    status, output, _ = await run("status", "--json")
    found = json.loads(output)
    assert (status, found["running"]) == (0, True)
    assert found["LoadedModels"][0]["name"] == "echo"
    status, output, _ = await run("status")
    assert "echo: 3.1 MB (2.1 MB private), loaded in 0.5 s, process 42" in output
    assert "echo: 1 running, 0 waiting, 0 of 0 tokens of context in use, 0 of 0 prompts" in output
    assert found["Statistics"]["commands"][0]["command"] == "volume.set"


async def test_models_that_are_loaded(run: Run, service: FakeService) -> None:
    status, output, _ = await run("ps")
    assert (status, output) == (0, "echo\t3.1 MB\t2.1 MB\t4096\t0\t42\n")
    status, output, _ = await run("ps", "--json")
    assert (status, json.loads(output)["name"]) == (0, "echo")
    for arguments in ([], ["echo", "--all"]):
        assert (await run("stop", *arguments))[0] == 2
    assert (await run("stop", "vectors"))[0] == 0
    assert service.unloaded == ["vectors"]
    assert (await run("stop", "--all"))[0] == 0
    assert service.unloaded == ["vectors", "/models/echo.gguf"]


async def test_status_is_watched_until_interrupted(environment: dict[str, str]) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "kylin_gguf", "status", "--watch", "--json"),
        stdout=asyncio.subprocess.PIPE,
        env=environment,
    )
    assert process.stdout is not None
    for _ in range(2):
        line = await asyncio.wait_for(process.stdout.readline(), 20)
        assert json.loads(line)["running"]
    process.send_signal(signal.SIGINT)
    assert await asyncio.wait_for(process.wait(), 20) == 0
