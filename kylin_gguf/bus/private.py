"""Start on demand: find the session bus, or start a private one; find the service, or start it.

In a desktop session the bus is there and activates the service. In a container or over ssh neither may be
so; then a private bus lives in ``Settings.runtime_dir`` and later calls find it there.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from kylin_gguf import config
from kylin_gguf.bus import names
from kylin_gguf.bus.connection import Connection
from kylin_gguf.errors import ServiceUnavailable
from kylin_gguf.records import ADAPTER, Settings

START_TIMEOUT_S = 60.0
MAX_SOCKET_PATH = 107
"""unix(7): sun_path holds 108 bytes with its terminating zero."""


@dataclass(frozen=True)
class Program:
    """A command of ours that owns a name on the bus, and the file its log goes to when we start it."""

    name: str
    command: str
    log: str


SERVICE = Program(names.BUS_NAME, "serve", "serve.log")
ADAPTER_PROGRAM = Program(ADAPTER.name, "actuator", "actuator.log")


def candidates(settings: Settings) -> list[str]:
    """Return the addresses where the session bus may be, most specific first; the private one is last."""
    addresses = [os.environ.get("DBUS_SESSION_BUS_ADDRESS", "")]
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if runtime:
        addresses.append(f"unix:path={quote(runtime)}/bus")
    return [*filter(None, addresses), private_address(settings)]


def private_address(settings: Settings) -> str:
    """Return the address of the private bus, whether it runs or not."""
    return f"unix:path={quote(str(settings.runtime_dir / 'bus'))}"


async def running_bus(settings: Settings) -> str:
    """Return the address of the first candidate that answers; empty when none does."""
    for address in candidates(settings):
        with contextlib.suppress(ServiceUnavailable):
            await (await Connection.connect(address)).close()
            return address
    return ""


async def bus_address(settings: Settings) -> str:
    """Return the address of a bus that answers, after starting a private one where there is none.

    Raises:
        ServiceUnavailable: dbus-daemon is not installed, or does not start.
    """
    return await running_bus(settings) or await asyncio.to_thread(_start_bus, settings)


def _start_bus(settings: Settings) -> str:
    address = private_address(settings)
    path = settings.runtime_dir / "bus"
    if len(os.fsencode(path)) > MAX_SOCKET_PATH:
        raise ServiceUnavailable(f"runtime_dir {settings.runtime_dir} is too long for a socket")
    program = shutil.which("dbus-daemon")
    if program is None:
        raise ServiceUnavailable("there is no session bus, and dbus-daemon is not installed to start one")
    with _locked(settings.runtime_dir):
        found = asyncio.run(running_bus(settings))
        if found:  # another process was quicker
            return found
        command = [program, "--session", "--fork", "--nopidfile", f"--address={address}"]
        environment = os.environ | {"DBUS_SESSION_BUS_ADDRESS": address}  # for what it activates
        started = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            check=False,
        )
    if started.returncode:
        raise ServiceUnavailable(f"dbus-daemon: {_last_line(started.stderr)}")
    return address


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Make ``directory`` for this user alone and hold its lock."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.chmod(0o700)
        lock = (directory / "lock").open("w")
    except OSError as error:
        raise ServiceUnavailable(f"{directory}: {error.strerror}") from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


async def connect(settings: Settings, *, start: bool = True) -> Connection:
    """Return a connection to a bus on which the service has its name.

    With ``start`` false nothing is started.

    Raises:
        ServiceUnavailable: there is no bus, or no service, and it could not be started.
    """
    address = await (bus_address(settings) if start else running_bus(settings))
    if not address:
        raise ServiceUnavailable("there is no session bus")
    connection = await Connection.connect(address)
    try:
        if not await connection.has_owner(names.BUS_NAME):
            if not start:
                raise ServiceUnavailable("it is not running")
            await start_program(SERVICE, settings, connection, address)
    except BaseException:
        await connection.close()
        raise
    return connection


async def start_program(program: Program, settings: Settings, connection: Connection, address: str) -> None:
    """Start ``program`` and return when it has its name on the bus of ``connection``, at ``address``.

    Raises:
        ServiceUnavailable: it does not start.
    """
    # A checkout serves itself: an installed package of another version must not answer for it.
    if not config.in_checkout() and await connection.activatable(program.name):
        await connection.daemon("StartServiceByName", "su", [program.name, 0])
        return
    settled = asyncio.Event()
    await connection.watch(program.name, lambda owner: settled.set() if owner else None)
    log = settings.state_dir / program.log
    process = _spawn(program.command, log, address)
    descriptor = os.pidfd_open(process.pid)
    loop = asyncio.get_running_loop()
    loop.add_reader(descriptor, settled.set)
    try:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(settled.wait(), START_TIMEOUT_S)
        # Two clients may start it at once; the one that loses the name ends, and its client uses the other.
        if not await connection.has_owner(program.name):
            raise ServiceUnavailable(_why(log, process))
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
        await connection.unwatch(program.name)


def _spawn(command: str, log: Path, address: str) -> subprocess.Popen[bytes]:
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        output = log.open("wb")
    except OSError as error:
        raise ServiceUnavailable(f"{log}: {error.strerror}") from error
    # -P and cwd: the directory the user happens to be in must not supply our modules, nor be kept busy.
    with output:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "kylin_gguf", command],
            env=os.environ | {"DBUS_SESSION_BUS_ADDRESS": address},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            start_new_session=True,
        )


def _why(log: Path, process: subprocess.Popen[bytes]) -> str:
    said = _last_line(log.read_text(encoding="utf-8", errors="replace"))
    if process.poll() is None:
        return f"it did not answer within {START_TIMEOUT_S:g} seconds; {log} says: {said}"
    return said or f"it ended with status {process.returncode}"


def _last_line(output: str) -> str:
    lines = output.strip().splitlines()
    return lines[-1].removeprefix("kylin-gguf: ").strip().rstrip(".") if lines else ""
