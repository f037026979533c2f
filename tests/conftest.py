"""A bus for the tests that need one."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

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


@pytest.fixture(scope="module")
def bus_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A dbus-daemon of this module's own, with no services to activate."""
    directory = tmp_path_factory.mktemp("bus")
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
    address = daemon.stdout.readline().strip()
    assert address, log.read_text(encoding="utf-8")
    yield address
    daemon.terminate()
    daemon.wait()
    daemon.stdout.close()
    print(log.read_text(encoding="utf-8"))  # pytest shows it when a test of the module failed
