"""The documented examples, as their readers would build and use them: a conversation that is streamed,
cancelled, and resumed, also by another process after a restart of the service."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from kylin_gguf.bus import names
from kylin_gguf.records import Settings
from tests.bus import echo
from tests.bus.broker import running_broker
from tests.bus.conftest import Foreign
from tests.conftest import start_bus

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
COMPILERS = {
    "chat.c": ("cc -Wall -Wextra -Wno-unused-parameter -Werror", ["gio-unix-2.0", "json-glib-1.0"]),
    "chat.cpp": ("c++ -std=c++17 -fPIC -Wall -Wextra -Werror", ["Qt5DBus", "Qt5Network"]),
}


@pytest.fixture(scope="module", params=["dbus-daemon", "dbus-broker"])
def bus_address(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A bus of this module's own, of both makes."""
    directory = tmp_path_factory.mktemp("bus")
    if request.param == "dbus-broker":
        with running_broker(directory) as address:
            yield address
        return
    bus, address = start_bus(directory)
    yield address
    bus.terminate()
    bus.wait()


@pytest.fixture(scope="module")
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command that runs an example, which is compiled first if need be."""
    source = EXAMPLES / request.param
    if source.suffix == ".py":
        return [sys.executable, str(source)]
    compiler, packages = COMPILERS[source.name]
    for program in ("pkg-config", compiler.split()[0]):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    wanted = subprocess.run(
        ["pkg-config", "--cflags", "--libs", *packages], capture_output=True, text=True, check=False
    )
    if wanted.returncode:
        pytest.skip(wanted.stderr.splitlines()[0])
    program = tmp_path_factory.mktemp("built") / source.stem
    flags = wanted.stdout.split()
    subprocess.run([*compiler.split(), str(source), "-o", str(program), *flags], check=True)
    return [str(program)]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return echo.settings(tmp_path)


class Talk:
    """An example that runs."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    def say(self, line: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(f"{line}\n".encode())

    def interrupt(self) -> None:
        self._process.send_signal(signal.SIGINT)

    async def hears(self, text: str) -> str:
        """Read stdout until ``text`` has come, and return all that was read."""
        assert self._process.stdout
        found = await asyncio.wait_for(self._process.stdout.readuntil(text.encode()), 20)
        return found.decode()

    async def kept_as(self) -> str:
        assert self._process.stderr
        line = await asyncio.wait_for(self._process.stderr.readline(), 20)
        assert line.startswith(b"This conversation is kept as "), line
        return line.split()[-1].decode()


@asynccontextmanager
async def talking(command: list[str], bus_address: str) -> AsyncIterator[Talk]:
    """Run an example; it must end well when its input ends."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"DBUS_SESSION_BUS_ADDRESS": bus_address, "LC_ALL": "C.UTF-8"},
    )
    try:
        yield Talk(process)
        _, complaints = await asyncio.wait_for(process.communicate(b""), 20)
        # Qt says this now and then when a program ends while a message is on its way to it.
        known = b"Trying to construct an instance of an invalid type"
        said = [line for line in complaints.splitlines() if not line.startswith(known)]
        assert (process.returncode, said) == (0, [])
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.parametrize("built", ["chat.c", "chat.cpp", "chat.py"], indirect=True)
async def test_a_conversation_is_streamed_cancelled_and_resumed(
    built: list[str], settings: Settings, bus_address: str
) -> None:
    async with echo.serving(settings, bus_address), talking(built, bus_address) as talk:
        kept_as = await talk.kept_as()
        talk.say("你好 there")
        assert await talk.hears("(stop)\n") == "first:1 你好 there\n(stop)\n"
        talk.say("FOREVER")
        assert await talk.hears("FOREVER") == "first:3 FOREVER"  # it streams: the answer has not ended
        talk.interrupt()
        assert await talk.hears("(cancelled)\n") == "\n(cancelled)\n"
        talk.say("and on")
        assert await talk.hears("(stop)\n") == "first:5 and on\n(stop)\n"
    async with echo.serving(settings, bus_address), talking([*built, kept_as], bus_address) as talk:
        assert await talk.kept_as() == kept_as
        talk.say("again")
        assert await talk.hears("(stop)\n") == "first:7 again\n(stop)\n"


@pytest.mark.parametrize("built", ["chat.c", "chat.cpp", "chat.py"], indirect=True)
async def test_an_error_is_told(built: list[str], settings: Settings, bus_address: str) -> None:
    async with echo.serving(settings, bus_address):
        process = await asyncio.create_subprocess_exec(
            *(*built, "no-such-id"),
            stdin=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env=os.environ | {"DBUS_SESSION_BUS_ADDRESS": bus_address, "LC_ALL": "C.UTF-8"},
        )
        _, complaints = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 1
    assert "No session is kept as 'no-such-id'" in complaints.decode()


@pytest.mark.skipif(shutil.which("busctl") is None, reason="systemd's busctl is not installed")
async def test_busctl_holds_a_conversation_call_by_call(
    settings: Settings, bus_address: str, foreign: Foreign
) -> None:
    busctl = ["busctl", f"--address={bus_address}", "--json=short"]
    busctl += ["call", names.BUS_NAME, names.ROOT, names.MANAGER]

    async def call(*arguments: str) -> str:
        status, output, complaints = await foreign(*busctl, *arguments)
        assert status == 0, complaints
        return output

    async with echo.serving(settings, bus_address) as service:
        await call("CreateSession", "a{sv}", "1", "keep", "b", "true")
        (kept,) = service.kept.listing()
        assert kept["id"] in await call("ListSessions")
        assert "first:1 你好" in await call("Ask", "ssa{sv}", kept["id"], "你好", "0")
        waiting = await asyncio.create_subprocess_exec(
            *(*busctl, "Ask", "ssa{sv}", kept["id"], "FOREVER", "0"),
            stdout=asyncio.subprocess.DEVNULL,
        )
        async with asyncio.timeout(20):
            while not echo.EchoEngine.running:
                await asyncio.sleep(0.01)
            waiting.terminate()
            await waiting.wait()
            while len(service.kept.get(kept["id"]).conversation.entries) < 4:
                await asyncio.sleep(0.01)
        assert "first:5 and on" in await call("Ask", "ssa{sv}", kept["id"], "and on", "0")
    async with echo.serving(settings, bus_address):
        assert "first:7" in await call("Ask", "ssa{sv}", kept["id"], "again", "0")
