"""Services that stand in for a desktop's, made by python-dbusmock in processes of their own."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path

# Debian's: it needs the GLib bindings, which are not in the project's environment.
DBUSMOCK = ("/usr/bin/python3", "-m", "dbusmock")
MOCK = "org.freedesktop.DBus.Mock"


class Service:
    """One mocked object with the interface of its service's name, or as given.

    ``calls`` lists the calls of its methods as ``setVolume 40``, in order.
    """

    def __init__(self, address: str, name: str, path: str, interface: str, log: Path) -> None:
        self._address, self._name, self._path, self._interface = address, name, path, interface
        self.log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [*DBUSMOCK, name, path, interface],
                env={"DBUS_SESSION_BUS_ADDRESS": address, "PATH": "/usr/bin:/bin"},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        wait_for_name(address, name)

    def add(self, method: str, taken: str, given: str, code: str) -> None:
        """Add a method; ``code`` is Python that sees ``args`` and sets ``ret``."""
        values = (self._interface, method, taken, given, code)
        busctl(self._address, self._name, self._path, MOCK, "AddMethod", "sssss", *values)

    def calls(self) -> list[str]:
        """Return what was called, with its arguments as dbusmock writes them."""
        lines = self.log.read_text(encoding="utf-8").splitlines()
        found = [re.sub(r"^[\d.]+ ", "", line) for line in lines if re.match(r"^[\d.]+ \w", line)]
        return [line for line in found if not line.startswith(("AddMethod", "emit"))]

    def stop(self) -> None:
        """Leave the bus."""
        self._process.kill()
        self._process.wait()


def busctl(address: str, *arguments: str) -> str:
    """Call a method and return what it answers, in busctl's notation."""
    command = ["busctl", f"--address={address}", "call", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def wait_for_name(address: str, name: str) -> None:
    """Return when ``name`` has an owner."""
    daemon = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")
    for _ in range(400):
        if busctl(address, *daemon, "NameHasOwner", "s", name) == "b true":
            return
        time.sleep(0.05)
    raise AssertionError(f"{name} does not come")


def template(address: str, name: str, service: str, log: Path) -> subprocess.Popen[bytes]:
    """Start python-dbusmock's template ``name`` on the system bus at ``address``; return when ``service`` is
    there."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*DBUSMOCK, "--system", "--template", name],
            env={"DBUS_SYSTEM_BUS_ADDRESS": address, "PATH": "/usr/bin:/bin"},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    wait_for_name(address, service)
    return process


def bluez(address: str, log: Path) -> subprocess.Popen[bytes]:
    """Start BlueZ on the system bus at ``address``, with one adapter that is off."""
    process = template(address, "bluez5", "org.bluez", log)
    busctl(address, "org.bluez", "/org/bluez", "org.bluez.Mock", "AddAdapter", "ss", "hci0", "here")
    set_powered(address, "false")
    return process


ADAPTER = ("org.bluez", "/org/bluez/hci0", "org.freedesktop.DBus.Properties")


def powered(address: str) -> bool:
    """Return whether the Bluetooth adapter is on."""
    return busctl(address, *ADAPTER, "Get", "ss", "org.bluez.Adapter1", "Powered") == "v b true"


def set_powered(address: str, value: str) -> None:
    """Switch the Bluetooth adapter."""
    busctl(address, *ADAPTER, "Set", "ssv", "org.bluez.Adapter1", "Powered", "b", value)
