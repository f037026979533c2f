"""A bus for the tests that need one."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:path={directory}/bus</listen>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
</busconfig>
"""


def start_bus(directory: Path) -> tuple[subprocess.Popen[str], str]:
    """Start a dbus-daemon in ``directory`` that activates no services; return its address, too."""
    (directory / "bus.conf").write_text(CONFIG.format(directory=directory), encoding="utf-8")
    log = directory / "daemon.log"
    with log.open("wb") as output:
        daemon = subprocess.Popen(
            ["dbus-daemon", f"--config-file={directory / 'bus.conf'}", "--nofork", "--print-address=1"],
            stdout=subprocess.PIPE,
            stderr=output,
            text=True,
        )
    assert daemon.stdout is not None
    with daemon.stdout:
        address = daemon.stdout.readline().strip()
    assert address, log.read_text(encoding="utf-8")
    return daemon, address


@pytest.fixture(scope="module")
def bus_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A dbus-daemon of this module's own."""
    directory = tmp_path_factory.mktemp("bus")
    daemon, address = start_bus(directory)
    yield address
    daemon.terminate()
    daemon.wait()
    # pytest shows it when a test of the module failed
    print((directory / "daemon.log").read_text(encoding="utf-8"))
