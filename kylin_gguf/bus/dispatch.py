"""From method calls to coroutines and back: checks, conversion, replies, and the standard interfaces."""

from __future__ import annotations

import asyncio
import keyword
import logging
import re
import socket
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from dbus_next.constants import MessageFlag
from dbus_next.message import Message
from dbus_next.signature import Variant

from kylin_gguf.bus import contract, errors, names, values
from kylin_gguf.bus.contract import Interface, Method
from kylin_gguf.bus.registry import Published, Registry
from kylin_gguf.errors import (
    Busy,
    FdPassingMissing,
    InvalidValue,
    KylinError,
    PropertyReadOnly,
    UnknownObject,
    near,
)

log = logging.getLogger(__name__)

MAX_CALLS = 64
"""Unanswered calls of one connection."""
STANDARD = (names.PROPERTIES, names.INTROSPECTABLE, names.PEER)


@dataclass(frozen=True)
class Reply:
    """What a method handler returns when it has more to say than values.

    ``stream`` is sent as the descriptor that an ``h`` among ``values`` stands for, and our copy closed.
    ``sent`` is called when the reply is with the bus, ``refused`` when its receiver cannot take descriptors.
    """

    values: tuple[object, ...]
    stream: socket.socket | None = None
    sent: Callable[[], None] = lambda: None
    refused: Callable[[], None] = lambda: None


def snake(member: str) -> str:
    """Return the Python name of a member: ``CreateSession`` is ``create_session``, ``Import`` ``import_``."""
    name = re.sub(r"(?<!^)(?=[A-Z])", "_", member).lower()
    return f"{name}_" if keyword.iskeyword(name) else name


def unknown(what: str, name: str, known: list[str]) -> UnknownObject:
    """Return the error for a member that does not exist, with names that may have been meant."""
    similar = ", ".join(near(name, known))
    return UnknownObject(f"{what} '{name}' (similar: {similar})" if similar else f"{what} '{name}'")


class Dispatcher:
    """Answers every method call on one connection from a registry of objects."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._connection = registry.connection
        self._calls: defaultdict[str, set[asyncio.Task[None]]] = defaultdict(set)
        self.last_call = time.monotonic()
        """When a call last arrived or was answered, for the idle exit."""
        registry.on_owner_gone = self._cancel
        self._connection.on_call = self._on_call

    @property
    def busy(self) -> bool:
        """Whether a call waits for its answer."""
        return bool(self._calls)

    async def close(self) -> None:
        """Cancel all unanswered calls and wait for their ends."""
        await _end({task for tasks in self._calls.values() for task in tasks})

    def _on_call(self, message: Message) -> None:
        self.last_call = time.monotonic()
        calls = self._calls[message.sender]
        if len(calls) >= MAX_CALLS:
            self._fail(message, Busy("calls", MAX_CALLS))
            return
        task = asyncio.get_running_loop().create_task(self._answer(message))
        calls.add(task)
        task.add_done_callback(lambda done: self._forget(message.sender, done))

    def _forget(self, sender: str, task: asyncio.Task[None]) -> None:
        self.last_call = time.monotonic()
        self._calls[sender].discard(task)
        if not self._calls[sender]:
            del self._calls[sender]

    async def _cancel(self, sender: str) -> None:
        await _end(self._calls.get(sender, set()))

    async def _answer(self, message: Message) -> None:
        reply = Reply(())
        try:
            method, reply = await self._invoke(message)
            body = values.body(method.signature_out, reply.values)
        except Exception as error:  # every failure is an error reply; to_bus logs the defects
            _drop(reply)
            self._fail(message, error)
            return
        if message.flags & MessageFlag.NO_REPLY_EXPECTED:
            _drop(reply)
            reply.sent()
            return
        descriptors = [reply.stream.fileno()] if reply.stream else []
        answer = Message.new_method_return(message, method.signature_out, body, descriptors)
        refused = partial(self._refused, message, reply) if reply.stream else None
        # Not awaited: a cancelled call must not close the descriptor before it was sent.
        self._connection.send(answer, refused).add_done_callback(partial(_delivered, reply))

    def _refused(self, message: Message, reply: Reply) -> None:
        reply.refused()
        self._fail(message, FdPassingMissing())

    def _fail(self, message: Message, error: BaseException) -> None:
        name, text = errors.to_bus(error)
        if not message.flags & MessageFlag.NO_REPLY_EXPECTED:
            self._connection.send(Message.new_error(message, name, values.text(text)))

    # --- One call ---------------------------------------------------------------------------------

    async def _invoke(self, message: Message) -> tuple[Method, Reply]:
        if message.interface in (names.PEER, names.INTROSPECTABLE):
            return self._about(message)
        published = self._registry.find(message.path, message.sender)
        if message.interface == names.PROPERTIES:
            interface, method = self._registry.contract[names.PROPERTIES], self._standard(message)
            arguments = _arguments(interface, method, message)
            return method, Reply(tuple(await self._property(method.name, published, *arguments)))
        interface, method = self._method(message, published)
        arguments = _arguments(interface, method, message)
        result = await getattr(published, snake(method.name))(message.sender, *arguments)
        if isinstance(result, Reply):
            return method, result
        return method, Reply((result,) if method.signature_out else ())

    def _method(self, message: Message, published: Published) -> tuple[Interface, Method]:
        offered = [self._registry.contract[name] for name in published.interfaces]
        if message.interface is not None:
            offered = [interface for interface in offered if interface.name == message.interface]
            if not offered:
                raise unknown(f"interface of {message.path}", message.interface, list(published.interfaces))
        for interface in offered:
            if message.member in interface.methods:
                return interface, interface.methods[message.member]
        known = [name for interface in offered for name in interface.methods]
        raise unknown(f"method of {message.path}", message.member, known)

    # --- The standard interfaces ------------------------------------------------------------------

    def _standard(self, message: Message) -> Method:
        methods = self._registry.contract[message.interface].methods
        if message.member not in methods:
            raise unknown(f"method of {message.interface}", message.member, list(methods))
        return methods[message.member]

    def _about(self, message: Message) -> tuple[Method, Reply]:
        method = self._standard(message)
        _arguments(self._registry.contract[message.interface], method, message)
        match method.name:
            case "Introspect":
                return method, Reply((self._introspect(message.path, message.sender),))
            case "GetMachineId":
                return method, Reply((_machine_id(),))
            case _:  # Ping
                return method, Reply(())

    def _introspect(self, path: str, caller: str) -> str:
        children = self._registry.children(path, caller)
        if children and path not in self._registry:
            return contract.introspection([], children)
        offered = (*self._registry.find(path, caller).interfaces, *STANDARD)
        return contract.introspection([self._registry.contract[name] for name in offered], children)

    async def _property(self, member: str, published: Published, interface: str, *rest: Any) -> list[object]:
        offered = [self._registry.contract[name] for name in published.interfaces if interface in ("", name)]
        if not offered:
            raise unknown(f"interface of {published.path}", interface, list(published.interfaces))
        types = {name: kind for described in offered for name, kind in described.properties.items()}
        if member == "GetAll":
            return [await _readable(published, types)]
        wanted = str(rest[0])
        if wanted not in types:
            raise unknown(f"property of {published.path}", wanted, list(types))
        if member == "Set":
            raise PropertyReadOnly(wanted)
        return [await _value(published, wanted, types[wanted])]


def check(published: type[Published], interfaces: Mapping[str, Interface]) -> None:
    """Raise TypeError when ``published`` does not answer every member that the contract gives it."""
    for name in published.interfaces:
        wanted = [snake(member) for member in interfaces[name].methods]
        wanted += [f"get_{snake(member)}" for member in interfaces[name].properties]
        for attribute in wanted:
            if not asyncio.iscoroutinefunction(getattr(published, attribute, None)):
                raise TypeError(f"{published.__name__}.{attribute} is missing: {name} promises it")


def _arguments(interface: Interface, method: Method, message: Message) -> list[Any]:
    if message.signature != method.signature_in:
        name = f"{interface.name}.{method.name}"
        raise InvalidValue(name, f"signature '{message.signature}'", f"signature '{method.signature_in}'")
    return [values.plain(value) for value in message.body]


async def _value(published: Published, name: str, signature: str) -> Variant:
    return values.typed(signature, await getattr(published, f"get_{snake(name)}")())


async def _readable(published: Published, types: Mapping[str, str]) -> dict[str, Variant]:
    """Return the properties that can be read: one that fails, fails only when it is asked for by name."""
    found = {}
    for name, signature in types.items():
        try:
            found[name] = await _value(published, name, signature)
        except KylinError as error:
            log.warning("property %s: %s", name, error)
    return found


def _drop(reply: Reply) -> None:
    """Withdraw a stream that will not be sent."""
    if reply.stream:
        reply.refused()
        reply.stream.close()


def _delivered(reply: Reply, _sent: asyncio.Future[None]) -> None:
    if reply.stream:
        reply.stream.close()
    reply.sent()


async def _end(tasks: Collection[asyncio.Task[None]]) -> None:
    """Cancel ``tasks`` and wait for their ends."""
    tasks = tuple(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _machine_id() -> str:
    for path in (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id")):
        if path.is_file():
            return path.read_text(encoding="ascii").strip()
    raise UnknownObject("machine id")
