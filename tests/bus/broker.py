"""dbus-broker, the other message bus of Debian's, for tests that ought to hold on both."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import start_bus

LAUNCHER = Path(__file__).with_name("launch_broker.py")
READY_S = 20


@contextmanager
def running_broker(directory: Path) -> Iterator[str]:
    """Run a dbus-broker in ``directory`` and yield its address; skip the test where that cannot be."""
    for program in ("dbus-broker-launch", "unshare"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    unshare = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    if subprocess.run([*unshare, "mount", "-t", "tmpfs", "none", "/run"], check=False).returncode:
        pytest.skip("no mount namespace can be made here, which dbus-broker's launcher needs without systemd")
    elsewhere = directory / "systemd"
    elsewhere.mkdir()
    systemds, systemds_address = start_bus(elsewhere)
    log = directory / "broker.log"
    with log.open("wb") as output:
        broker = subprocess.Popen(
            [*unshare, sys.executable, str(LAUNCHER), str(directory)],
            env=os.environ | {"DBUS_SESSION_BUS_ADDRESS": systemds_address},
            stdout=output,
            stderr=output,
        )
    try:
        deadline = time.monotonic() + READY_S
        while not (directory / "bus").exists():
            assert broker.poll() is None and time.monotonic() < deadline, log.read_text(encoding="utf-8")
            time.sleep(0.05)
        yield f"unix:path={directory}/bus"
    finally:
        for process in (broker, systemds):
            process.terminate()
            process.wait()
