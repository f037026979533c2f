"""llama.cpp's RPC workers, which lend devices of other machines: is one there, and what does it lend?

The back end itself ends the process where a worker is missing, and waits for ever for one that is busy: a
worker serves one connection at a time. So each is asked here first, and given two seconds.
The protocol is that of ggml-rpc.cpp in the pinned source; names in parentheses are its.
"""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

ADDRESS = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*:[0-9]{1,5}")
"""HOST:PORT, the host by name or IPv4 address: the back end knows no other."""

PLUGIN = "libggml-rpc.so"

_SECONDS = 2.0
_VERSION = 7  # RPC_PROTO_MAJOR_VERSION
_GET_DEVICE_MEMORY, _HELLO, _DEVICE_COUNT = 11, 14, 15  # enum rpc_cmd
_SIZE = struct.Struct("<Q")
_GREETING = struct.Struct("<BBBx24x")
_COUNT = struct.Struct("<I")
_MEMORY = struct.Struct("<QQ")
_MOST_DEVICES = 16
_NAME = re.compile(rf"RPC([0-9]{{1,2}})\[({ADDRESS.pattern})\]")


@dataclass(frozen=True)
class LentDevice:
    """One device of a worker. ``number`` counts the worker's devices; memory is in bytes."""

    address: str
    number: int
    memory_free: int = 0
    memory_total: int = 0

    @property
    def name(self) -> str:
        """What llama.cpp calls its buffers. Its names of such devices depend on the order of asking."""
        return f"RPC{self.number}[{self.address}]"


def named(name: str) -> LentDevice | None:
    """Return the device that a ``LentDevice.name`` means; None for any other name."""
    found = _NAME.fullmatch(name)
    return LentDevice(found[2], int(found[1])) if found else None


def look(address: str) -> tuple[LentDevice, ...]:
    """Ask the worker at ``address`` what it lends.

    Raises:
        OSError: nobody answers in time, or not as a worker of this build does.
    """
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), _SECONDS) as connection:
            return tuple(_ask(connection, address))
    except TimeoutError as error:
        raise TimeoutError(f"no answer in {_SECONDS:.0f} seconds: it is busy, or not there") from error
    except OverflowError as error:  # create_connection, of a port
        raise OSError(str(error)) from error


def _ask(connection: socket.socket, address: str) -> Iterator[LentDevice]:
    major, minor, patch = _call(connection, _HELLO, bytes(24), _GREETING)
    if major != _VERSION:
        raise ConnectionError(f"it speaks version {major}.{minor}.{patch} of the protocol, not {_VERSION}")
    (count,) = _call(connection, _DEVICE_COUNT, b"", _COUNT)
    for number in range(min(count, _MOST_DEVICES)):
        free, total = _call(connection, _GET_DEVICE_MEMORY, _COUNT.pack(number), _MEMORY)
        yield LentDevice(address, number, min(free, total), total)


def _call(connection: socket.socket, command: int, content: bytes, answer: struct.Struct) -> tuple[int, ...]:
    connection.sendall(bytes([command]) + _SIZE.pack(len(content)) + content)
    (size,) = _SIZE.unpack(_receive(connection, _SIZE.size))
    if size != answer.size:
        raise ConnectionError("it does not answer as a worker does")
    return answer.unpack(_receive(connection, size))


def _receive(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            raise ConnectionError("it hangs up: is it of another build?")
        data += piece
    return data
