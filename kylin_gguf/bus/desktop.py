"""The desktop's own D-Bus services, called with the types that their introspection states."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from typing import Any
from xml.etree import ElementTree

from dbus_next.errors import InvalidSignatureError, SignatureBodyMismatchError
from dbus_next.message import Message
from dbus_next.signature import SignatureTree, Variant
from dbus_next.validators import is_object_path_valid

from kylin_gguf.adapter.outcome import Failed, Unavailable
from kylin_gguf.adapter.services import Given, Member
from kylin_gguf.bus import names, values
from kylin_gguf.bus.connection import Connection, close_descriptors
from kylin_gguf.errors import InternalError, InvalidValue, KylinError, ServiceUnavailable
from kylin_gguf.records import ResultValue

CALL_TIMEOUT_S = 10.0
MAX_XML = 1 << 20
MAX_OBJECTS = 16
EVERY = "/*"
_WHOLE = "ynqiuxt"
_TRUE, _FALSE = ("true", "on"), ("false", "off")


class Desktop:
    """``adapter.services.Services`` on the bus of ``session``, and on the system bus once asked for."""

    def __init__(self, session: Connection) -> None:
        self._buses: dict[str, Connection] = {"session": session}

    async def close(self) -> None:
        """Leave the system bus; the session's connection is its owner's."""
        if "system" in self._buses:
            await self._buses.pop("system").close()

    async def probe(self, member: Member) -> None:
        """As ``Services.probe``."""
        bus = await self._bus(member.bus)
        try:
            there = await bus.has_owner(member.dest) or await bus.activatable(member.dest)
        except KylinError as error:
            raise Unavailable(f"the {member.bus} bus does not answer: {error}") from error
        if not there:
            raise Unavailable(f"{member.dest} is not on the {member.bus} bus")

    async def check(self, member: Member, arguments: int) -> None:
        """As ``Services.check``."""
        for path in await self._objects(member):
            taken = len(SignatureTree(await self._method(member, path)).types)
            if taken != arguments:
                raise Unavailable(f"{member} takes {taken} arguments, not {arguments}")

    async def check_property(self, member: Member) -> None:
        """As ``Services.check_property``."""
        for path in await self._objects(member):
            await self._property(member, path)

    async def call(self, member: Member, arguments: Sequence[Given]) -> ResultValue | None:
        """As ``Services.call``."""
        results = []
        for path in await self._objects(member):
            signature = await self._method(member, path)
            kinds = [kind.signature for kind in SignatureTree(signature).types]
            body = [_typed(kind, value) for kind, value in zip(kinds, arguments, strict=True)]
            message = Message(
                member.dest, path, member.interface, member.name, signature=signature, body=body
            )
            reply = await self._send(member, message)
            results.append(_plain(reply.body[0], member) if reply.body else None)
        return results[0]

    async def get(self, member: Member) -> ResultValue:
        """As ``Services.get``."""
        return _plain(await self._property(member, (await self._objects(member))[0]), member)

    async def set(self, member: Member, value: Given) -> None:
        """As ``Services.set``."""
        for path in await self._objects(member):
            kind = (await self._property(member, path)).signature
            given = [member.interface, member.name, Variant(kind, _typed(kind, value))]
            message = Message(member.dest, path, names.PROPERTIES, "Set", signature="ssv", body=given)
            await self._send(member, message)

    # --- Introspection ----------------------------------------------------------------------------

    async def _objects(self, member: Member) -> list[str]:
        """Return the path of ``member``, or the paths that it stands for."""
        if not member.path.endswith(EVERY):
            return [member.path]
        above = member.path.removesuffix(EVERY)
        nodes = (await self._introspect(member, above)).findall("node")
        named = (f"{above}/{node.get('name', '')}" for node in nodes[:MAX_OBJECTS])
        paths = [path for path in named if is_object_path_valid(path)]
        offering = [path for path in paths if await self._offers(member, path)]
        if not offering:
            raise Unavailable(f"{member.dest} has no object with {member.interface}")
        return offering

    async def _offers(self, member: Member, path: str) -> bool:
        with suppress(Unavailable, Failed):
            await self._interface(member, path)
            return True
        return False

    async def _introspect(self, member: Member, path: str) -> ElementTree.Element:
        reply = await self._look(member, Message(member.dest, path, names.INTROSPECTABLE, "Introspect"))
        text = str(reply.body[0]) if reply.body else ""
        try:
            # A document type could define entities that grow; introspection's own needs none.
            if len(text) > MAX_XML or "<!ENTITY" in text:
                raise Unavailable(f"the introspection of {member.dest} {path} is not plain")
            return ElementTree.fromstring(text)
        except ElementTree.ParseError as error:
            raise Unavailable(f"the introspection of {member.dest} {path} is not XML") from error

    async def _interface(self, member: Member, path: str) -> ElementTree.Element:
        for element in (await self._introspect(member, path)).findall("interface"):
            if element.get("name") == member.interface:
                return element
        raise Unavailable(f"{member.dest} {path} has no interface {member.interface}")

    async def _method(self, member: Member, path: str) -> str:
        """Return the signature of the arguments."""
        for element in (await self._interface(member, path)).findall("method"):
            if element.get("name") == member.name:
                ingoing = [a for a in element.findall("arg") if a.get("direction", "in") == "in"]
                return _checked("".join(a.get("type", "") for a in ingoing), member)
        raise Unavailable(f"there is no method {member}")

    async def _property(self, member: Member, path: str) -> Variant:
        """Return the value of a property, which also tells its type."""
        given = [member.interface, member.name]
        message = Message(member.dest, path, names.PROPERTIES, "Get", signature="ss", body=given)
        reply = await self._look(member, message)
        if reply.signature != "v":
            raise Unavailable(f"{member} is no property")
        value: Variant = reply.body[0]
        return value

    # --- Calls ------------------------------------------------------------------------------------

    async def _look(self, member: Member, message: Message) -> Message:
        """Send a question; who does not answer it is not there."""
        try:
            return await self._send(member, message)
        except Failed as failure:
            raise Unavailable(str(failure)) from failure

    async def _send(self, member: Member, message: Message) -> Message:
        try:
            reply = await (await self._bus(member.bus)).call(message, CALL_TIMEOUT_S)
        except (ServiceUnavailable, InternalError) as error:  # fields: why nobody answers; the error reply
            fields = error.fields()
            raise Failed(f"{member}: {fields.get('reason') or fields.get('detail') or error}") from error
        except KylinError as error:
            raise Failed(f"{member}: {error}") from error
        close_descriptors(reply)
        return reply

    async def _bus(self, name: str) -> Connection:
        if name not in self._buses:
            address = os.environ.get("DBUS_SYSTEM_BUS_ADDRESS") or names.SYSTEM_BUS
            try:
                self._buses[name] = await Connection.connect(address)
            except ServiceUnavailable as error:
                raise Unavailable(f"there is no {name} bus") from error
            self._buses[name].lost.add_done_callback(lambda _: self._buses.pop(name, None))
        return self._buses[name]


def _checked(signature: str, member: Member) -> str:
    try:
        SignatureTree(signature)
    except (InvalidSignatureError, AssertionError, IndexError) as error:
        raise Unavailable(f"{member} has the signature '{signature[:80]}'") from error
    return signature


def _typed(kind: str, value: Given) -> Any:
    """Return ``value`` as D-Bus type ``kind``, which must be a plain one; raises Failed."""
    said = str(value).lower() if isinstance(value, bool) else str(value)
    converted: Any = None
    try:
        if kind == "b" and said in _TRUE + _FALSE:
            converted = said in _TRUE
        elif kind == "d":
            converted = float(said)
        elif kind and kind in _WHOLE:
            converted = int(float(said))
        elif kind in ("s", "o", "g"):
            converted = values.text(said)
        SignatureTree(kind).verify([converted])
    except (ValueError, OverflowError, SignatureBodyMismatchError) as error:
        raise Failed(f"'{said[:40]}' is no value of the D-Bus type {kind}") from error
    return converted


def _plain(value: Any, member: Member) -> ResultValue:
    try:
        found = values.plain(value)
    except InvalidValue as error:
        raise Failed(f"{member}: {error}") from error
    if not isinstance(found, bool | int | float | str):
        raise Failed(f"{member} does not answer with a plain value")
    return found
