"""Becomes a dbus-broker for the bus at DIRECTORY/bus; run under ``unshare --mount``.

Its launcher wants a journal to log to and a systemd on a bus of its own. The journal is a socket that nobody
reads, in a /run of this process's. ``DBUS_SESSION_BUS_ADDRESS`` names a bus where no systemd answers, which
is enough for a bus that activates nothing.

Usage: launch_broker.py DIRECTORY
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <policy context="default">
    <allow send_destination="*"/>
    <allow receive_sender="*"/>
    <allow own="*"/>
  </policy>
</busconfig>
"""
FIRST_PASSED = 3
"""sd_listen_fds(3): where passed sockets begin."""


def bound(kind: socket.SocketKind, path: Path) -> int:
    """Return the descriptor of a socket at ``path``, for the program that this one becomes."""
    made = socket.socket(socket.AF_UNIX, kind)
    made.bind(str(path))
    if kind is socket.SOCK_STREAM:
        made.listen(128)
    return made.detach()


def main() -> None:
    """Prepare and become the launcher."""
    directory = Path(sys.argv[1])
    (directory / "bus.conf").write_text(CONFIG, encoding="utf-8")
    subprocess.run(["mount", "-t", "tmpfs", "none", "/run"], check=True)
    journal = Path("/run/systemd/journal/socket")
    journal.parent.mkdir(parents=True)
    listening = bound(socket.SOCK_STREAM, directory / "bus")
    os.dup2(listening, FIRST_PASSED)
    os.set_inheritable(FIRST_PASSED, True)
    os.set_inheritable(bound(socket.SOCK_DGRAM, journal), True)
    os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
    program = "dbus-broker-launch"
    os.execvp(program, [program, "--scope", "user", "--config-file", str(directory / "bus.conf")])


if __name__ == "__main__":
    main()
