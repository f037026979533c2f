"""The monitor's screen, at the size of the smallest terminal, before the real service on a bus."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from textual.widgets import DataTable, Footer, Static

from kylin_gguf.bus.client import Client
from kylin_gguf.cli import monitor, monitor_app
from kylin_gguf.cli.monitor_app import MonitorApp
from kylin_gguf.errors import AccessDenied, ExtraMissing
from kylin_gguf.records import Activity, Execution, Power
from kylin_gguf.service import Service
from tests.bus import echo

SIZE = (80, 24)


@pytest.fixture(autouse=True)
def on_the_bus(bus_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", bus_address)
    monkeypatch.setattr(monitor_app, "EVERY_S", 3600.0)  # a test says itself when to look


@pytest.fixture
async def service(tmp_path: Path, bus_address: str) -> AsyncIterator[Service]:
    async with echo.serving(echo.settings(tmp_path), bus_address) as running:
        yield running


@pytest.fixture
async def client(service: Service, bus_address: str) -> AsyncIterator[Client]:
    async with echo.connected(bus_address) as connected:
        yield connected


def screen(app: MonitorApp) -> str:
    """Return what stands on the screen, as a terminal without colour shows it."""
    lines = app.screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in line).rstrip() for line in lines)


def engine(service: Service) -> echo.EchoEngine:
    (found,) = service._pool._engines.values()
    assert isinstance(found, echo.EchoEngine)
    return found


async def test_a_loaded_model_its_speed_and_its_queue(service: Service, client: Client) -> None:
    await client.load("first")
    app, working = MonitorApp(), engine(service)
    working.counted = Activity(cells=512, cells_used=128, requests=4, cache_hits=3, waiting=2)
    async with app.run_test(size=SIZE) as pilot:
        working.counted = replace(
            working.counted, generated_tokens=40, generated_s=2.0, prompt_tokens=30, prompt_s=0.1
        )
        session = await client.create_session("first")
        answer = await session.generate("FOREVER")
        async with asyncio.timeout(20):
            while not echo.EchoEngine.running:
                await asyncio.sleep(0.01)
        await pilot.press("space")
        await pilot.pause()
        shown = screen(app)
        await answer.cancel()
    (line,) = (line for line in shown.splitlines() if " first " in line or "│first " in line)
    assert line.strip("│ ").split() == ["first", "CPU", "1", "2", "20.0", "300.0", "25%", "75%", "3.1", "MB"]
    assert "Answers 20.0 t/s" in shown
    assert "Prompts 300.0 t/s" in shown
    assert "Queue 1 run, 2 wait" in shown
    assert "█" in shown, "the graphs are drawn with characters"
    assert max(map(len, shown.splitlines())) <= SIZE[0]
    assert all(key in shown.splitlines()[-1] for key in ("q Quit", "p Pause", "space Look now"))


async def test_where_the_power_comes_from_and_how_much_it_is(service: Service, client: Client) -> None:
    await client.load("first")
    app, working = MonitorApp(), engine(service)
    async with app.run_test(size=SIZE) as pilot:
        devices = app.query_one("#devices")
        assert devices.border_subtitle == ""
        service.heed_power(Power(on_battery=True))
        assert working.thrift == (True, True)
        working.counted = replace(working.counted, time=2.0, energy_j=25.0, saving="measuring")
        await pilot.press("space")
        await pilot.pause()
        assert devices.border_subtitle == "on battery, saving, 12.5 W"


async def test_commands_are_listed_as_text(service: Service, client: Client) -> None:
    async def done() -> Execution:
        return Execution("done")

    await service._journal.follow("[red]note/\x1bwrite", done())
    app = MonitorApp()
    async with app.run_test(size=SIZE):
        table = app.query_one("#commands", DataTable)
        row = [cell.plain.strip() for cell in table.get_row_at(0)]
    assert row[1:3] == ["[red]note/write", "done"]


async def test_a_pause_keeps_the_screen(service: Service, client: Client) -> None:
    app = MonitorApp()
    async with app.run_test(size=SIZE) as pilot:
        models = app.query_one("#models", DataTable)
        await pilot.press("p")
        await client.load("first")
        await app._tick()
        assert (models.row_count, models.border_subtitle) == (0, "paused")
        await pilot.press("p")
        await app._tick()
        assert (models.row_count, models.border_subtitle) == (1, "")


async def test_a_service_that_comes_and_goes(tmp_path: Path, bus_address: str) -> None:
    app = MonitorApp()
    async with app.run_test(size=SIZE) as pilot:
        head = app.query_one("#service", Static)
        assert "not running" in str(head.render())
        async with echo.serving(echo.settings(tmp_path), bus_address):
            await pilot.press("space")
            await pilot.pause()
            assert "default model first" in str(head.render())
        await pilot.press("space")
        await pilot.pause()
        assert "not running" in str(head.render()), "and it was not started"
        assert app.query_one(Footer)


async def test_a_refusal_ends_it_with_the_error() -> None:
    async def refuse() -> None:
        raise AccessDenied("what belongs to this user")

    app = MonitorApp(refuse)
    async with app.run_test(size=SIZE):
        pass
    assert isinstance(app._failure, AccessDenied)


def test_without_a_terminal_it_says_what_to_use() -> None:
    command = [sys.executable, "-m", "kylin_gguf", "monitor"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 2
    assert "status --watch --json" in done.stderr


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_without_textual_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "textual"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "kylin_gguf.cli.monitor_app")
    for stream in ("stdin", "stdout"):
        monkeypatch.setattr(sys, stream, Terminal())
    with pytest.raises(ExtraMissing, match=r"kylin-gguf-engine\[monitor\]"):
        monitor.monitor()


def test_other_commands_do_not_import_it() -> None:
    code = "import sys; from kylin_gguf.cli import app; app.build(['ps']); sys.exit('textual' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, env=dict(os.environ)).returncode == 0


def test_on_a_chinese_terminal_without_colour(bus_address: str, tmp_path: Path) -> None:
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", SIZE[1], SIZE[0], 0, 0))
    plain = {"NO_COLOR": "1", "TERM": "xterm", "LANGUAGE": "zh_CN", "HOME": str(tmp_path)}
    process = subprocess.Popen(
        [sys.executable, "-m", "kylin_gguf", "monitor"],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        env={**os.environ, **plain},
    )
    os.close(follower)
    written = b""
    while "退出".encode() not in written:
        written += os.read(leader, 1 << 16)
    os.write(leader, b"q")
    with contextlib.suppress(OSError):  # EIO: it has gone
        while data := os.read(leader, 1 << 16):
            written += data
    os.close(leader)
    assert process.wait(60) == 0
    assert "服务未运行" in written.decode()
    codes = {code for codes in re.findall(rb"\x1b\[([\d;]*)m", written) for code in codes.split(b";")}
    colours = {code for code in codes if len(code) > 1}
    assert colours <= {b"30", b"37", b"40", b"47", b"90", b"97", b"100", b"107"}, "black, white and grey"
