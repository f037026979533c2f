"""What the adapter adds to the catalogue: only what this desktop has, kept up to date."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import pytest

from kylin_gguf.bus import adapter, names
from kylin_gguf.bus.client import Client
from kylin_gguf.bus.connection import Connection
from kylin_gguf.errors import AccessDenied, ConfirmationNeeded, InvalidValue
from kylin_gguf.records import ADAPTER
from tests.desktop.conftest import Desktop
from tests.desktop.stand_ins import Service

ENTRY = "[Desktop Entry]\nType=Application\nName={name}\nName[zh_CN]={chinese}\nExec={program} %U\n"


async def until(condition: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(adapter.LOOK_EVERY_S + 20):
        while not await condition():
            await asyncio.sleep(0.1)


async def offered(client: Client) -> set[str]:
    listed = await client.list_commands()
    return {c["id"] for c in listed if c["available"] and c["id"].startswith("desktop/")}


@pytest.fixture
async def ready(client: Client) -> Client:
    """A client of a service to which the adapter has told what else there is."""
    await until(lambda: offered(client))
    return client


def install(desktop: Desktop, name: str, chinese: str, program: str) -> None:
    directory = desktop.programs.directory.parent / ".local/share/applications"
    directory.mkdir(parents=True, exist_ok=True)
    text = ENTRY.format(name=name, chinese=chinese, program=program)
    (directory / f"org.test.{name}.desktop").write_text(text, encoding="utf-8")


async def test_only_what_is_there_is_offered(ready: Client) -> None:
    found = await offered(ready)
    assert "desktop/application.open" in found  # gio is there
    assert not found & {"desktop/screenshot.take", "desktop/search.open", "desktop/power.off"}
    assert (await ready.interpret("关机"))["command"] is None


async def test_a_new_application_can_be_opened(ready: Client, desktop: Desktop) -> None:
    desktop.programs.add("test-writer")
    install(desktop, "Writer", "文书编辑器", "test-writer")
    arguments = {"application": "org.test.Writer.desktop"}
    with pytest.raises(InvalidValue):  # not found yet, and no text that comes along is taken for one
        await ready.execute("desktop/application.open", arguments)

    async def opened() -> bool:
        with contextlib.suppress(InvalidValue):
            return (await ready.execute("desktop/application.open", arguments)) == {"status": "done"}
        return False

    await until(opened)
    async with asyncio.timeout(20):
        while ["test-writer"] not in desktop.programs.calls():
            await asyncio.sleep(0.1)


async def test_the_service_finds_its_adapter_again_and_asks_before_power_goes(desktop: Desktop) -> None:
    """Everything is there when both start: the service is replaced, the adapter tells it anew."""
    log = desktop.programs.directory / "session.log"
    manager = Service(
        desktop.address,
        "org.gnome.SessionManager",
        "/org/gnome/SessionManager",
        "org.gnome.SessionManager",
        log,
    )
    for method in ("powerOff", "reboot", "suspend"):
        manager.add(method, "", "", "")
    for program in ("kylin-screenshot", "ukui-search", "ukui-screensaver-command"):
        desktop.programs.add(program)
    desktop.restart_service()
    connection = await Connection.connect(desktop.address)
    client = Client(connection, await connection.owner(names.BUS_NAME))
    await until(lambda: offered(client))
    expected = {"screenshot.take", "search.open", "power.off", "power.restart", "session.lock"}
    assert {f"desktop/{name}" for name in expected} <= await offered(client)
    found = await client.interpret("截个图")
    assert (await client.execute(found["command"], found["arguments"])) == {"status": "done"}
    assert desktop.programs.calls()[-1] == ["kylin-screenshot", "full"]
    power = await client.interpret("关机")
    assert (power["command"], power["confirm"]) == ("desktop/power.off", True)
    with pytest.raises(ConfirmationNeeded):
        await client.execute("desktop/power.off", {})
    assert "powerOff" not in manager.calls()
    assert (await client.execute("desktop/power.off", {}, confirmed=True)) == {"status": "done"}
    assert manager.calls()[-1] == "powerOff"
    await connection.close()
    manager.stop()


async def test_nobody_else_speaks_for_the_desktop(ready: Client) -> None:
    with pytest.raises(AccessDenied):
        await ready.call(names.ACTUATOR, "RemoveCatalogue", "s", "desktop", timeout=20)


async def test_the_adapter_does_not_outlive_its_service(desktop: Desktop) -> None:
    """What it has registered keeps no service that nobody uses, and the adapter goes after it."""
    desktop.restart_service(KYLIN_GGUF_IDLE_EXIT_S="3")
    connection = await Connection.connect(desktop.address)
    gone: list[str] = []
    for name in (names.BUS_NAME, ADAPTER.name):
        await connection.watch(name, lambda owner, name=name: None if owner else gone.append(name))
    assert await connection.has_owner(ADAPTER.name)
    async with asyncio.timeout(60):
        while len(gone) < 2:
            await asyncio.sleep(0.1)
    assert gone == [names.BUS_NAME, ADAPTER.name]
    assert desktop.service.wait(20) == 0
    await connection.close()
