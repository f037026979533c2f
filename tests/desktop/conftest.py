"""The real service and the real adapter, as processes, on a desktop of stand-ins. No model is installed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from kylin_gguf.bus import names
from kylin_gguf.bus.client import Client
from kylin_gguf.bus.connection import Connection
from tests.conftest import start_bus
from tests.desktop.stand_ins import Service, bluez, set_powered, wait_for_name
from tests.stand_ins import Programs

PROGRAMS = ("ukui-control-center", "kylin-music", "ukydisplayswitch")
SCHEMAS = """<schemalist>
<schema id="org.ukui.peripherals-touchpad" path="/org/ukui/touchpad/">
  <key name="touchpad-enabled" type="b"><default>true</default></key>
</schema>
<schema id="org.ukui.style" path="/org/ukui/style/">
  <key name="system-font-size" type="s"><default>'11'</default></key>
</schema></schemalist>
"""


@dataclass
class Desktop:
    """A session with what the tests look at. ``environment`` is that of its processes."""

    address: str
    system: str
    programs: Programs
    media: Service
    brightness: Service
    environment: dict[str, str]
    service: subprocess.Popen[bytes]

    def renew_media(self) -> None:
        """Replace the sound service by one that works."""
        self.media.stop()
        self.media = _media(self.address, self.media.log.with_suffix(".again.log"))

    def restart_service(self, **settings: str) -> None:
        """Replace the service, with ``settings`` in its environment; the adapter stays."""
        self.service.terminate()
        self.service.wait()
        self.service = _start_service(self.environment | settings)
        wait_for_name(self.address, names.BUS_NAME)

    def setting(self, schema: str, key: str) -> str:
        """Return a setting, as gsettings prints it."""
        command = ["gsettings", "get", schema, key]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=True)
        return done.stdout.strip()


def _environment(directory: Path, address: str, system: str, programs: Programs) -> dict[str, str]:
    schemas = directory / "schemas"
    schemas.mkdir()
    (schemas / "ukui.gschema.xml").write_text(SCHEMAS, encoding="utf-8")
    subprocess.run(["glib-compile-schemas", "--strict", schemas], check=True)
    return {
        **{name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ},
        "PATH": f"{programs.directory}:/usr/bin:/bin",
        "HOME": str(directory),
        "XDG_DATA_DIRS": str(directory / "share"),
        "LC_ALL": "C.UTF-8",
        "DBUS_SESSION_BUS_ADDRESS": address,
        "DBUS_SYSTEM_BUS_ADDRESS": system,
        "GSETTINGS_SCHEMA_DIR": str(schemas),
        "GSETTINGS_BACKEND": "keyfile",
    }


def _media(address: str, log: Path) -> Service:
    media = Service(address, "org.ukui.media", "/org/ukui/media", "org.ukui.media", log)
    media.add("setDefaultOutputVolume", "i", "", "self.volume = args[0]")
    media.add("getDefaultOutputVolume", "", "i", "ret = getattr(self, 'volume', 35)")
    error = "raise dbus.exceptions.DBusException('no sound card', name='org.ukui.media.Error.NoCard')"
    media.add("setDefaultOutputMuteState", "b", "", error)
    return media


def _brightness(address: str, log: Path) -> Service:
    interface = "org.ukui.SettingsDaemon.Brightness"
    brightness = Service(address, "org.ukui.SettingsDaemon", "/GlobalBrightness", interface, log)
    brightness.add("setPrimaryBrightness", "u", "", "self.level = args[0]")
    brightness.add("getPrimaryBrightness", "", "u", "ret = getattr(self, 'level', 60)")
    return brightness


def _start_service(environment: dict[str, str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-P", "-m", "kylin_gguf", "serve"]
    with (Path(environment["HOME"]) / "service.log").open("ab") as output:
        return subprocess.Popen(command, env=environment, stderr=output, cwd="/")


@pytest.fixture(scope="module")
def desktop(bus_address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desktop]:
    directory = tmp_path_factory.mktemp("desktop")
    programs = Programs(directory / "programs")
    for name in PROGRAMS:
        programs.add(name)
    (directory / "system").mkdir()
    daemon, system = start_bus(directory / "system")
    media, brightness = (
        _media(bus_address, directory / "media.log"),
        _brightness(bus_address, directory / "brightness.log"),
    )
    bluetooth = bluez(system, directory / "bluez.log")
    environment = _environment(directory, bus_address, system, programs)
    service = _start_service(environment)
    wait_for_name(bus_address, names.BUS_NAME)
    made = Desktop(bus_address, system, programs, media, brightness, environment, service)
    yield made
    for process in (made.service, bluetooth, daemon):
        process.terminate()
        process.wait()
    made.media.stop()
    brightness.stop()
    for log in directory.rglob("*.log"):
        print(log.name, log.read_text(encoding="utf-8"), sep="\n")  # shown when a test of the module failed


@pytest.fixture
async def client(desktop: Desktop) -> AsyncIterator[Client]:
    set_powered(desktop.system, "false")
    connection = await Connection.connect(desktop.address)
    made = Client(connection, await connection.owner(names.BUS_NAME))
    yield made
    await made.close()
