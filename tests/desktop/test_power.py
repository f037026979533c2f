"""Where the power comes from, told by stand-ins of UPower and power-profiles-daemon on a system bus."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kylin_gguf.bus import power
from kylin_gguf.bus.client import Client
from kylin_gguf.bus.power import PowerWatch
from kylin_gguf.errors import ServiceUnavailable
from kylin_gguf.records import Power
from tests.conftest import start_bus
from tests.desktop.conftest import Desktop
from tests.desktop.stand_ins import template


class System:
    """A system bus, and what runs on it."""

    def __init__(self, directory: Path) -> None:
        self._daemon, self.address = start_bus(directory)
        self._log = directory / "mock.log"
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, service: str) -> None:
        self._running[service] = template(self.address, name, service, self._log)

    def stop(self, service: str) -> None:
        process = self._running.pop(service)
        process.kill()
        process.wait()

    def set(self, where: tuple[str, str, str], name: str, kind: str, value: str) -> None:
        service, path, interface = where
        command = ["busctl", f"--address={self.address}", "call", service, path, "org.freedesktop.DBus.Mock"]
        given = ["UpdateProperties", "sa{sv}", interface, "1", name, kind, value]
        subprocess.run([*command, *given], check=True, capture_output=True)

    def end(self) -> None:
        for service in [*self._running]:
            self.stop(service)
        self._daemon.terminate()
        self._daemon.wait()


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[System]:
    made = System(tmp_path)
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", made.address)
    yield made
    made.end()


class Told:
    """Takes what a watch tells."""

    def __init__(self) -> None:
        self.last: Power | None = None

    def __call__(self, found: Power) -> None:
        self.last = found

    async def becomes(self, expected: Power) -> None:
        async with asyncio.timeout(20):
            while self.last != expected:
                await asyncio.sleep(0.01)


async def test_a_plug_that_is_pulled_and_a_profile_that_is_chosen(system: System) -> None:
    system.start("upower", power.UPOWER[0])
    system.start("power_profiles_daemon", power.PROFILES[0])
    told = Told()
    watch = await PowerWatch.start(told)
    assert told.last == Power(on_battery=False, profile="balanced")
    system.set(power.UPOWER, "OnBattery", "b", "true")
    await told.becomes(Power(on_battery=True, profile="balanced"))
    system.set(power.PROFILES, "ActiveProfile", "s", "power-saver")
    await told.becomes(Power(on_battery=True, profile="power-saver"))
    await watch.close()
    assert told.last == Power(on_battery=True, profile="power-saver"), "to stop listening is no news"


async def test_a_system_bus_that_ends_leaves_nothing_known(system: System) -> None:
    system.start("upower", power.UPOWER[0])
    told = Told()
    watch = await PowerWatch.start(told)
    assert told.last == Power(on_battery=False)
    system.end()
    await told.becomes(Power())
    await watch.close()


async def test_services_that_come_and_go(system: System) -> None:
    told = Told()
    watch = await PowerWatch.start(told)
    assert told.last == Power(), "a desktop computer without either"
    system.start("upower", power.UPOWER[0])
    await told.becomes(Power(on_battery=False))
    system.stop(power.UPOWER[0])
    await told.becomes(Power())
    await watch.close()


async def test_the_commands_read_it_once(system: System) -> None:
    system.start("upower", power.UPOWER[0])
    system.set(power.UPOWER, "OnBattery", "b", "true")
    assert await power.read() == Power(on_battery=True)


async def test_without_a_system_bus_nothing_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/none")
    assert await power.read() == Power()
    with pytest.raises(ServiceUnavailable):
        await PowerWatch.start(Told())


async def test_the_real_service_follows_it(client: Client, desktop: Desktop, tmp_path: Path) -> None:
    assert (await client.statistics())["power"] == {"hot": False}
    upower = template(desktop.system, "upower", power.UPOWER[0], tmp_path / "mock.log")
    try:
        async with asyncio.timeout(60):
            while (await client.statistics())["power"].get("on_battery") is not False:
                await asyncio.sleep(0.05)
    finally:
        upower.kill()
        upower.wait()
    async with asyncio.timeout(60):
        while "on_battery" in (await client.statistics())["power"]:
            await asyncio.sleep(0.05)
