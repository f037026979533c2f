"""What our connection makes of peers, and of callers, that do not keep to the protocol."""

from __future__ import annotations

import asyncio

import pytest
from dbus_next.message import Message

from kylin_gguf.adapter.outcome import Unavailable
from kylin_gguf.adapter.services import Member
from kylin_gguf.bus import names
from kylin_gguf.bus.connection import Connection
from kylin_gguf.bus.desktop import Desktop
from kylin_gguf.errors import InternalError

NAME = "org.example.Strange"


async def test_who_calls_with_what_cannot_be_written_is_told(bus_address: str) -> None:
    connection = await Connection.connect(bus_address)
    wrong = Message(names.DAEMON, names.DAEMON_PATH, names.DAEMON, "NameHasOwner", signature="s", body=[5])
    with pytest.raises(InternalError):
        await asyncio.wait_for(connection.call(wrong), 20)
    assert await connection.has_owner(names.DAEMON), "the connection goes on"
    await connection.close()


async def test_names_of_nodes_that_are_no_paths_are_passed_over(bus_address: str) -> None:
    service, connection = await Connection.connect(bus_address), await Connection.connect(bus_address)
    assert await service.own(NAME)
    nodes = "".join(f'<node name="{name}"/>' for name in ("a b", "", "../x", "/absolute", "good"))
    described = {
        "/org/example": f"<node>{nodes}</node>",
        "/org/example/good": f'<node><interface name="{NAME}"><method name="Do"/></interface></node>',
    }
    service.on_call = lambda call: service.send(Message.new_method_return(call, "s", [described[call.path]]))
    desktop = Desktop(connection)
    await desktop.check(Member("session", NAME, "/org/example/*", NAME, "Do"), 0)
    with pytest.raises(Unavailable):
        await desktop.check(Member("session", NAME, "/org/example/*", "org.example.Other", "Do"), 0)
    await service.close()
    await connection.close()
