"""Ten thousand calls of the contract's members with arguments of all kinds.

Each has an answer or an error with a name, the service lives, and nobody else notices.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dbus_next.message import Message
from dbus_next.signature import SignatureTree, SignatureType, Variant

from kylin_gguf import errors
from kylin_gguf.bus import contract, names
from kylin_gguf.bus.client import Client
from kylin_gguf.bus.connection import Connection, close_descriptors
from kylin_gguf.conversations import MAX_CHARS
from kylin_gguf.records import SamplingOptions
from tests.bus import echo

CALLS = 10_000
A_CLIENT = 250
"""Calls of one client; the next has objects of its own."""
AT_ONCE = 32
"""Below the number of calls that a connection may have unanswered."""
LONG_EVERY = 500
SEED = 20261127

WORDS = [
    *("", "x", "first", "second", "nobody", "volume.set", "user", "system", "true", "0", "-1", "9" * 30),
    *(
        "你好",
        "\u202e\u0007",
        "'; DROP TABLE session; --",
        "../../etc/passwd",
        "/dev/zero",
        "%s%n{0}",
        "\uffff",
    ),
    *(
        "[[[[[[",
        '{"format": "kylin-gguf-conversation", "version": 1, "messages": []}',
        "version: 1",
        "\uffff",
    ),
    *(names.ROOT, names.SESSION, names.MANAGER, "prompt", "mode", "assistant"),
]
OPTIONS = [
    *SamplingOptions.names(),
    *("prompt", "mode", "model", "system", "overflow", "keep", "confirmed", "executor"),
]
INTERFACES = (names.MANAGER, names.ACTUATOR, names.SESSION, names.REQUEST, names.JOB)
NUMBERS = [0, 1, -1, 2**31 - 1, -(2**31)]
ONE_KIND: dict[str, Callable[[random.Random], Any]] = {
    "y": lambda r: r.randrange(256),
    "b": lambda r: r.random() < 0.5,
    "n": lambda r: r.choice([0, -1, 2**15 - 1]),
    "q": lambda r: r.choice([0, 2**16 - 1]),
    "i": lambda r: r.choice(NUMBERS),
    "u": lambda r: r.choice([0, 1, 2**32 - 1]),
    "x": lambda r: r.choice([*NUMBERS, 2**63 - 1, -(2**63)]),
    "t": lambda r: r.choice([0, 2**64 - 1]),
    "d": lambda r: r.choice([0.0, -1.0, 0.5, 1e308, float("inf"), float("nan")]),
    "s": lambda r: r.choice(WORDS),
    "o": lambda r: r.choice(["/", names.ROOT, "/a/b"]),
    "g": lambda r: r.choice(["", "a{sv}", "(ii)"]),
}
SIGNATURES = [
    "",
    "s",
    "ss",
    "a{sv}",
    "sa{sv}",
    "as",
    "aas",
    "v",
    "(si)",
    "aa{ss}",
    "a{sas}",
    "b",
    "x",
    "d",
    "ay",
    "o",
]


class Fuzzer:
    """Makes calls to ``objects``, paths with an interface of theirs; the same for the same seed."""

    def __init__(self) -> None:
        self.objects: list[tuple[str, str]] = []
        self._random = random.Random(SEED)
        described = contract.load()
        self._members = {
            interface: [
                (method.name, method.signature_in) for method in described[interface].methods.values()
            ]
            for interface in (*INTERFACES, names.PROPERTIES, names.INTROSPECTABLE, names.PEER)
        }

    def call(self, number: int) -> Message:
        chosen = self._random
        path, interface = chosen.choice(self.objects)
        if chosen.random() < 0.15:
            interface = chosen.choice(list(self._members))
        member, signature = chosen.choice(self._members[interface])
        if chosen.random() < 0.1:
            member = chosen.choice([member.lower(), f"{member}s", "x" * 255])
        if chosen.random() < 0.05:
            interface = chosen.choice([names.SESSION, f"{interface}2", names.DAEMON])
        if chosen.random() < 0.2:
            signature = chosen.choice(SIGNATURES)
        body = [self._value(kind) for kind in SignatureTree(signature).types]
        if number % LONG_EVERY == 0 and signature.startswith("s"):
            body[0] = "长" * (MAX_CHARS + 1)
        return Message(names.BUS_NAME, path, interface, member, signature=signature, body=body)

    def _value(self, kind: SignatureType) -> Any:
        chosen = self._random
        match kind.token:
            case "a" if kind.children[0].token == "{":
                key, value = kind.children[0].children
                return {self._key(key): self._value(value) for _ in range(chosen.choice([0, 1, 1, 2, 5]))}
            case "a":
                length = chosen.choice([0, 1, 2, 300])
                if kind.children[0].token == "y":
                    return chosen.randbytes(length)
                return [self._value(kind.children[0]) for _ in range(length)]
            case "(":
                return [self._value(child) for child in kind.children]
            case "v":
                signature = chosen.choice(["s", "b", "x", "d", "i", "as", "a{sv}", "v", "u", "ay"])
                return Variant(signature, self._value(SignatureTree(signature).types[0]))
            case token:
                return ONE_KIND[token](chosen)

    def _key(self, kind: SignatureType) -> Any:
        if kind.token == "s" and self._random.random() < 0.8:
            return self._random.choice([*OPTIONS, "role", "content", "id", "counts"])
        return ONE_KIND[kind.token](self._random)


async def answered(connection: Connection, message: Message) -> str:
    """Send a call and return the class of its error; empty when it was answered well."""
    try:
        reply = await connection.call(message, 60)
    except errors.KylinError as error:
        return type(error).__name__
    close_descriptors(reply)  # a stream that nobody reads: the answer stops
    return ""


async def test_ten_thousand_calls(tmp_path: Path, bus_address: str, caplog: pytest.LogCaptureFixture) -> None:
    settings = echo.settings(tmp_path)
    async with echo.serving(settings, bus_address), echo.connected(bus_address) as bystander:
        quiet = await bystander.create_session(keep=True)
        await quiet.complete("mine")
        waiting = await quiet.generate("FOREVER")
        fuzzer, outcomes = Fuzzer(), Counter[str]()
        for _ in range(CALLS // A_CLIENT):
            echo.write_models(settings)  # they may have been removed
            async with echo.connected(bus_address) as client:
                fuzzer.objects = await objects(client)
                fuzzer.objects += [(quiet.path, names.SESSION), (waiting.path, names.REQUEST)]
                for start in range(0, A_CLIENT, AT_ONCE):
                    calls = [fuzzer.call(start + at) for at in range(min(AT_ONCE, A_CLIENT - start))]
                    replies = (answered(client._connection, call) for call in calls)
                    outcomes.update(await asyncio.gather(*replies))
        assert sum(outcomes.values()) == CALLS
        assert outcomes[""] > CALLS / 10 and len(outcomes) > 10, outcomes
        assert outcomes["InternalError"] == outcomes["ServiceUnavailable"] == 0, outcomes
        assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
        assert [entry.message.content for entry in await quiet.entries()] == ["mine", "first:1 mine"]
        await waiting.cancel()
        assert [frame["type"] async for frame in waiting] == ["text", "text", "end"]
        assert await quiet.complete("and on") == "first:5 and on"


async def objects(client: Client) -> list[tuple[str, str]]:
    """Make objects of the client's own; the root object counts more often: it has the most members."""
    session = await client.create_session()
    answer = await session.generate("FOREVER")
    job = (await client.call(names.MANAGER, "Load", "s", "second", "a{sv}", {})).body[0]
    root = [(names.ROOT, names.MANAGER), (names.ROOT, names.ACTUATOR)] * 4
    own = [(session.path, names.SESSION)] * 5 + [(answer.path, names.REQUEST), (job, names.JOB)]
    return [*root, *own, (f"{names.ROOT}/session/999999", names.SESSION), ("/", names.PEER)]


async def test_bytes_that_are_no_text_end_their_sender_alone(tmp_path: Path, bus_address: str) -> None:
    async with echo.serving(echo.settings(tmp_path), bus_address), echo.connected(bus_address) as client:
        connection = await Connection.connect(bus_address)
        message = Message(names.BUS_NAME, names.ROOT, names.MANAGER, "Remove", signature="s", body=["????"])
        message.serial = 99
        raw = bytes(message._marshall(negotiate_unix_fd=False)).replace(b"????", b"\xff\xfe\xed\xa0")
        connection._bus._sock.send(raw)
        await asyncio.wait_for(connection.lost, 20)
        await connection.close()
        assert await client.list_models()
