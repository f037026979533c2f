"""Conversations as a client has them: a session object, and the stream of one answer."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

from dbus_next.message import Message as BusMessage

from kylin_gguf import frames
from kylin_gguf.bus import names, values
from kylin_gguf.bus.connection import take_descriptor
from kylin_gguf.errors import Cancelled, KylinError, ServiceUnavailable, UnknownObject, of_code
from kylin_gguf.frames import Frame
from kylin_gguf.records import Entry, Message

MAX_FRAME_BYTES = 1 << 20
SHORT_CALL_S = 25.0

Call = Callable[..., Awaitable[BusMessage]]
"""``Client.call``."""


class ClientSession:
    """A conversation. Made by ``Client.create_session`` or ``open_session``."""

    def __init__(self, call: Call, path: str) -> None:
        self._bus_call = call
        self.path = path

    async def generate(self, prompt: str, **options: object) -> Answer:
        """Start an answer; ``options`` are ``mode`` and those of ``SamplingOptions``."""
        reply = await self._call("Generate", "a{sv}", {"prompt": prompt, **options})
        request, index = reply.body
        stream = socket.socket(fileno=take_descriptor(reply, index))
        stream.setblocking(False)
        reader, writer = await asyncio.open_unix_connection(sock=stream, limit=MAX_FRAME_BYTES)
        return Answer(self._bus_call, request, reader, writer)

    async def complete(self, prompt: str, **options: object) -> str:
        """Return a whole answer."""
        return str((await self._call("Complete", "s", prompt, "a{sv}", options)).body[0])

    async def model(self) -> str:
        """Return the name of the model that this conversation is with."""
        return await self._property("Model")

    async def remote(self) -> str:
        """Return the server that answers in this conversation, empty where this machine does."""
        try:
            return await self._property("Remote")
        except UnknownObject:  # a service before API version 8, which asks no servers
            return ""

    async def set_model(self, model: str) -> None:
        """Have another model give the next answers."""
        await self._call("SetModel", "s", model)

    async def kept_as(self) -> str:
        """Return the id that ``Client.open_session`` takes; empty when the session is not kept."""
        return await self._property("KeptAs")

    async def entries(self) -> list[Entry]:
        """Return the conversation so far."""
        return [_entry(one) for one in (await self._call("Messages")).body[0]]

    async def messages(self) -> list[Message]:
        """Return the conversation so far, without ids."""
        return [entry.message for entry in await self.entries()]

    async def set_context(self, messages: Sequence[Message | Entry]) -> None:
        """Replace the conversation; those without an id get one."""
        await self._call("SetContext", "aa{ss}", [_described(message) for message in messages])

    async def select_context(self, ids: Sequence[int]) -> None:
        """Have answers given from the messages with these ids, and from what comes."""
        await self._call("SelectContext", "as", [str(number) for number in ids])

    async def export(self) -> dict[str, Any]:
        """Return the conversation as the JSON object that ``import_`` takes."""
        document: dict[str, Any] = json.loads((await self._call("Export")).body[0])
        return document

    async def import_(self, document: Mapping[str, Any]) -> None:
        """Replace the conversation by one that was exported; raises InvalidValue for anything else."""
        await self._call("Import", "s", json.dumps(document, ensure_ascii=False))

    async def clear(self) -> None:
        """Forget the conversation."""
        await self._call("Clear")

    async def close(self) -> None:
        """End the session."""
        await self._call("Close")

    async def _call(self, member: str, *arguments: object) -> BusMessage:
        return await self._bus_call(names.SESSION, member, *arguments, path=self.path)

    async def _property(self, name: str) -> str:
        reply = await self._bus_call(names.PROPERTIES, "Get", "s", names.SESSION, "s", name, path=self.path)
        return str(values.plain(reply.body[0]))


class Answer:
    """The frames of one answer, as an async iterator that ends after the ``end`` frame."""

    def __init__(
        self, call: Call, path: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._call = call
        self.path = path
        self._reader = reader
        self._writer = writer

    async def __aiter__(self) -> AsyncIterator[Frame]:
        """Yield the frames.

        Raises:
            ServiceUnavailable: the stream broke off before its ``end`` frame.
        """
        try:
            while line := await self._reader.readline():
                for frame in frames.decode([line]):
                    yield frame
                    if frame.get("type") == "end":
                        return
            raise ServiceUnavailable("the answer broke off")
        finally:
            self._writer.close()

    async def texts(self) -> AsyncIterator[str]:
        """Yield the pieces of the answer.

        Raises:
            KylinError: the answer's error; Cancelled when it was stopped.
        """
        async for frame in self:
            failure = failure_of(frame)
            if failure is not None:
                raise failure
            if frame["type"] == "text":
                yield frame["text"]

    async def close(self) -> None:
        """Read no more of the answer, which stops it. Harmless after its end."""
        self._writer.close()

    async def confirm(self, consent: bool) -> None:
        """Answer a ``confirm`` frame; raises NothingToConfirm when it comes too late."""
        await self._call(names.REQUEST, "Confirm", "b", consent, path=self.path, timeout=SHORT_CALL_S)

    async def cancel(self) -> None:
        """Stop the answer; its last frame is still to be read."""
        await self._call(names.REQUEST, "Cancel", path=self.path, timeout=SHORT_CALL_S)


def failure_of(frame: Frame) -> KylinError | None:
    """Return the exception that an ``error`` frame, or an ``end`` after a cancel, stands for."""
    if frame["type"] == "error":
        return of_code(str(frame.get("code")), str(frame.get("message")))
    if frame["type"] == "end" and frame.get("reason") == "cancelled":
        return Cancelled()
    return None


def _described(message: Message | Entry) -> dict[str, str]:
    if isinstance(message, Message):
        return message.to_json()
    described = message.message.to_json() | {"counts": "true" if message.counts else "false"}
    return described | ({"id": str(message.id)} if message.id else {})


def _entry(described: Mapping[str, str]) -> Entry:
    message = Message.from_json({key: described[key] for key in ("role", "content")})
    return Entry(message, int(described["id"]), described["counts"] == "true")
