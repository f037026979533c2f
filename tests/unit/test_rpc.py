"""Asking an RPC worker what it lends, against one that a thread pretends."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from kylin_gguf import config, native, rpc
from kylin_gguf.errors import InvalidValue, PluginMissing
from kylin_gguf.offload import lend, lent

GIB = 1 << 30
Serve = Callable[[socket.socket], object]


def _worker(version: int = 7, *memories: tuple[int, int]) -> Serve:
    """Return what serves one client as a worker of ``version`` with devices of (free, total) bytes."""

    def serve(client: socket.socket) -> None:
        while header := client.recv(9, socket.MSG_WAITALL):
            command, size = struct.unpack("<BQ", header)
            content = client.recv(size, socket.MSG_WAITALL) if size else b""
            if command == 14:
                answer = bytes([version, 0, 0, 0]) + bytes(24)
            elif command == 15:
                answer = struct.pack("<I", len(memories))
            else:
                answer = struct.pack("<QQ", *memories[struct.unpack("<I", content)[0]])
            client.sendall(struct.pack("<Q", len(answer)) + answer)

    return serve


@contextmanager
def listening(serve: Serve) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            client, _ = server.accept()
            with client:
                serve(client)

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        thread.join(5)


def test_what_a_worker_lends_is_told_with_its_memory() -> None:
    with listening(_worker(7, (GIB, 2 * GIB), (3, 2))) as address:
        first, second = rpc.look(address)
    assert (first.name, first.memory_free, first.memory_total) == (f"RPC0[{address}]", GIB, 2 * GIB)
    assert (second.memory_free, second.memory_total) == (2, 2), "more is free than there is"


def test_a_name_tells_the_worker_and_the_device() -> None:
    assert rpc.named("RPC3[10.0.0.2:50052]") == rpc.LentDevice("10.0.0.2:50052", 3)
    assert [rpc.named(name) for name in ("RPC0", "Vulkan0", "RPC0[x]", "RPC0[a:1]\n")] == [None] * 4


@pytest.mark.parametrize(
    ("serve", "reason"),
    [
        (_worker(6), "version 6.0.0"),
        (lambda client: client.recv(1000), "hangs up"),
        (lambda client: client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "does not answer as a worker"),
    ],
)
def test_what_is_no_worker_of_this_build_is_refused(serve: Serve, reason: str) -> None:
    with listening(serve) as address, pytest.raises(OSError, match=reason):
        rpc.look(address)


def test_a_worker_that_serves_somebody_else_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc, "_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(TimeoutError, match="busy"):
        rpc.look(f"127.0.0.1:{server.getsockname()[1]}")


def test_devices_and_absent_workers_are_told_apart(tmp_path: Path) -> None:
    with listening(_worker(7, (GIB, GIB))) as address:
        (device,), (absent,) = lent.devices((address, "127.0.0.1:9"), _with_plugin(tmp_path))
    assert (device.name, device.kind, device.memory_total) == (f"RPC0[{address}]", "remote", GIB)
    assert absent.name == "RPC[127.0.0.1:9]" and absent.reason


def test_without_the_plugin_no_worker_is_asked(tmp_path: Path) -> None:
    devices, (failed,) = lent.devices(("127.0.0.1:9",), tmp_path)
    assert not devices and rpc.PLUGIN in failed.reason


def test_without_the_plugin_nothing_is_lent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "load", lambda settings: SimpleNamespace(directory=tmp_path, devices=()))
    with pytest.raises(PluginMissing, match="kylin-gguf-engine-rpc"):
        lend.serve(config.load({}, {}), "127.0.0.1:0", "", 0)


def _with_plugin(directory: Path) -> Path:
    (directory / rpc.PLUGIN).touch()
    return directory


@pytest.mark.parametrize("host", ["0.0.0.0", "8.8.8.8", "192.0.2.1"])
def test_strangers_reach_nothing_unless_forced(host: str) -> None:
    with pytest.raises(InvalidValue, match="private"):
        lend.check_address(host, 50052, anywhere=False)


def test_an_address_is_listened_on_only_if_it_is_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(InvalidValue, match="free port"):
            lend.check_address("127.0.0.1", port, anywhere=False)
    lend.check_address("127.0.0.1", port, anywhere=False)
    with pytest.raises(InvalidValue, match="IPv4"):
        lend.check_address("localhost", port, anywhere=False)
