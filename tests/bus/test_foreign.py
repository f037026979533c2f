"""The service as others see it: GLib's gdbus, systemd's busctl, and GDBus as a library."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from kylin_gguf.bus import names
from kylin_gguf.bus.server import Server
from tests.bus.conftest import Foreign

GDBUS = ["gdbus", "call", "--session", "--dest", names.BUS_NAME, "--object-path", names.ROOT, "--method"]


async def test_gdbus_lists_models(server: Server, foreign: Foreign) -> None:
    status, output, complaints = await foreign(*GDBUS, f"{names.MANAGER}.ListModels")
    assert status == 0, complaints
    assert "'name': <'echo'>" in output
    assert "'size': <int64 5000000000>" in output


async def test_gdbus_understands_the_introspection_data(server: Server, foreign: Foreign) -> None:
    status, output, complaints = await foreign(
        "gdbus", "introspect", "--session", "--dest", names.BUS_NAME, "--object-path", names.ROOT
    )
    assert status == 0, complaints
    assert "CreateSession(in  a{sv} options,\n                    out o session)" in output
    assert "readonly s DefaultModel = 'echo'" in output


async def test_gdbus_gets_named_errors(server: Server, foreign: Foreign) -> None:
    for member, argument, error in (
        ("CreateSession", "{'modle': <'x'>}", "Usage.UnknownOption"),
        ("Remove", "'nothing'", "Model.Unknown"),
        ("ListModel", "", "Bus.UnknownObject"),
    ):
        status, _, complaints = await foreign(*GDBUS, f"{names.MANAGER}.{member}", *filter(None, [argument]))
        assert status == 1
        assert f"{names.ERROR_PREFIX}{error}" in complaints


async def test_gdbus_as_a_library_reads_a_stream(server: Server, foreign: Foreign, bus_address: str) -> None:
    script = Path(__file__).with_name("gdbus_stream.py")
    status, output, complaints = await foreign(sys.executable, script, bus_address, "你好 it's me")
    assert status == 0, complaints
    models, *lines, error = output.splitlines()
    assert "'slow'" in models
    frames = [json.loads(line) for line in lines]
    assert [frame["type"] for frame in frames] == ["text", "text", "text", "usage", "end"]
    assert [frame["text"] for frame in frames[:3]] == ["你好", "it's", "me"]
    assert error == f"{names.ERROR_PREFIX}Usage.UnknownOption"


@pytest.mark.skipif(shutil.which("busctl") is None, reason="systemd's busctl is not installed")
async def test_busctl_calls_and_introspects(server: Server, foreign: Foreign, bus_address: str) -> None:
    busctl = ["busctl", f"--address={bus_address}"]
    status, output, complaints = await foreign(*busctl, "introspect", names.BUS_NAME, names.ROOT)
    assert status == 0, complaints
    assert ".DefaultModel" in output
    interpret = [names.BUS_NAME, names.ROOT, names.ACTUATOR, "Interpret", "sa{sv}", "volume 40", "0"]
    status, output, complaints = await foreign(*busctl, "--json=short", "call", *interpret)
    assert status == 0, complaints
    assert json.loads(output)["data"][0]["command"] == {"type": "s", "data": "volume.set"}
