"""One connection to the bus: the low-level part of dbus-next, with that library's faults worked around.

dbus-next 0.2.3 is complete and in every Debian, and no longer maintained. What is handled here, so that
the rest of ``bus/`` need not know:

- Its writer disconnects on EAGAIN when several messages are queued and the daemon is slow. Messages are
  therefore handed to it one at a time.
- Descriptors of messages that nobody wants stay open. They are closed here.
- A reply that carries a descriptor, sent to a client that cannot receive one, leaves that client without an
  answer. The daemon tells the sender so, in an error that answers the reply's own serial; see ``send``.
- End of file during authentication is a busy loop.
- A lost connection leaves callers waiting. They are failed, and ``lost`` is set.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import Any

from dbus_next.aio.message_bus import MessageBus
from dbus_next.auth import AuthExternal
from dbus_next.constants import MessageFlag, MessageType
from dbus_next.errors import AuthError
from dbus_next.message import Message

from kylin_gguf.bus import errors, names
from kylin_gguf.errors import InternalError, ServiceUnavailable

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 10.0
DAEMON_TIMEOUT_S = 25.0
CLOSE_TIMEOUT_S = 5.0
MAX_QUEUED = 4096
"""Outgoing messages that may wait for the daemon. Only a daemon that has hung lets it come to that."""
MAX_TRACKED = 64
"""Newest replies with descriptors for which a refusal is still expected. Refusals come at once."""

DO_NOT_QUEUE = 4
OWNED = (1, 4)  # DBUS_REQUEST_NAME_REPLY_PRIMARY_OWNER, _ALREADY_OWNER

LOST = "the connection to the bus is lost"

Refused = Callable[[], None]


class _Bus(MessageBus):
    async def _auth_readline(self) -> str:
        line = b""
        while not line.endswith(b"\r\n"):
            received = await self._loop.sock_recv(self._sock, 2)
            if not received:
                raise AuthError("the bus closed the connection")
            line += received
        return line[:-2].decode()


class Connection:
    """A connection with an unbounded life; made by ``connect``, ended by ``close``.

    ``on_call`` gets every method call, ``on_signal`` every signal. ``lost`` is done when the connection is
    gone, for whatever reason; its result is True when ``close`` was the reason.
    """

    def __init__(self, bus: MessageBus) -> None:
        self._bus = bus
        self.unique_name = str(bus.unique_name)
        self.on_call: Callable[[Message], None] = self._refuse
        self.on_signal: Callable[[Message], None] = lambda _: None
        loop = asyncio.get_running_loop()
        self.lost: asyncio.Future[bool] = loop.create_future()
        self._closing = False
        self._replies: dict[int, asyncio.Future[Message]] = {}
        self._refusals: OrderedDict[int, Refused] = OrderedDict()
        self._watched: dict[str, Callable[[str], None]] = {}
        self._queue: deque[tuple[Message, asyncio.Future[None]]] = deque()
        self._queued = asyncio.Event()
        bus.add_message_handler(self._on_message)
        self._tasks = (loop.create_task(self._pump()), loop.create_task(self._await_loss()))

    @classmethod
    async def connect(cls, address: str) -> Connection:
        """Connect to the bus at ``address``.

        Raises:
            ServiceUnavailable: nobody answers there, or access is refused.
        """
        try:
            bus = _Bus(bus_address=address, auth=AuthExternal(), negotiate_unix_fd=True)
            await asyncio.wait_for(bus.connect(), CONNECT_TIMEOUT_S)
        except (OSError, ValueError, AuthError, EOFError, TimeoutError) as error:
            reason = str(error) or "no answer"
            raise ServiceUnavailable(f"no bus at {address}: {reason}") from error
        return cls(bus)

    async def close(self) -> None:
        """Send what is queued, then disconnect. Closing twice is harmless."""
        if not self.lost.done():
            if self._queue:
                await asyncio.wait([self._queue[-1][1]], timeout=CLOSE_TIMEOUT_S)  # done on loss, too
            self._closing = True
            self._bus.disconnect()
            await self.lost
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- Sending ----------------------------------------------------------------------------------

    def send(self, message: Message, refused: Refused | None = None) -> asyncio.Future[None]:
        """Queue ``message``; the future is done when it is with the daemon, or the connection is lost.

        ``refused`` is called when the daemon will not pass the message on because its receiver cannot take
        descriptors.
        """
        sent: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.lost.done():
            sent.set_result(None)
            return sent
        message.serial = message.serial or self._bus.next_serial()
        if refused is not None:
            self._refusals[message.serial] = refused
            while len(self._refusals) > MAX_TRACKED:
                self._refusals.popitem(last=False)
        self._queue.append((message, sent))
        self._queued.set()
        if len(self._queue) > MAX_QUEUED:
            log.error("the bus has not taken %d messages; giving it up", MAX_QUEUED)
            self._bus.disconnect()
        return sent

    async def call(self, message: Message, timeout: float | None = None) -> Message:
        """Call a method and return the reply, whose descriptors then belong to the caller.

        Raises:
            KylinError: as the reply's error name says; ServiceUnavailable when nobody replies.
        """
        if self.lost.done():
            raise ServiceUnavailable(LOST)
        message.serial = self._bus.next_serial()
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._replies[message.serial] = future
        self.send(message)
        try:
            reply = await asyncio.wait_for(future, timeout)
        except TimeoutError as error:
            raise ServiceUnavailable(f"no reply to {message.member} within {timeout:g} seconds") from error
        finally:
            del self._replies[message.serial]
        if reply.message_type is MessageType.ERROR:
            close_descriptors(reply)
            raise errors.from_bus(reply.error_name, str(reply.body[0]) if reply.body else "")
        return reply

    async def daemon(self, member: str, signature: str = "", body: Sequence[Any] = ()) -> list[Any]:
        """Call a method of the bus daemon itself and return the reply's values."""
        message = Message(
            names.DAEMON, names.DAEMON_PATH, names.DAEMON, member, signature=signature, body=list(body)
        )
        return list((await self.call(message, DAEMON_TIMEOUT_S)).body)

    # --- Names ------------------------------------------------------------------------------------

    async def watch(self, name: str, changed: Callable[[str], None]) -> None:
        """Call ``changed`` with the new owner, empty for none, whenever ``name`` changes hands."""
        self._watched[name] = changed
        await self.daemon("AddMatch", "s", [_owner_rule(name)])

    async def unwatch(self, name: str) -> None:
        """Undo ``watch``."""
        if self._watched.pop(name, None) is not None and not self.lost.done():
            await self.daemon("RemoveMatch", "s", [_owner_rule(name)])

    async def own(self, name: str) -> bool:
        """Take the well-known ``name``; False when another connection has it."""
        return (await self.daemon("RequestName", "su", [name, DO_NOT_QUEUE]))[0] in OWNED

    async def owner(self, name: str) -> str:
        """Return the unique name of the owner of ``name``; empty when there is none."""
        try:
            return str((await self.daemon("GetNameOwner", "s", [name]))[0])
        except ServiceUnavailable:
            return ""

    async def user_of(self, name: str) -> int:
        """Return the user id that the owner of ``name`` runs under, as the bus has it from the kernel."""
        return int((await self.daemon("GetConnectionUnixUser", "s", [name]))[0])

    async def activatable(self, name: str) -> bool:
        """Return whether the bus can start an owner for ``name``."""
        return name in (await self.daemon("ListActivatableNames"))[0]

    async def has_owner(self, name: str) -> bool:
        """Return whether someone owns ``name``."""
        return bool((await self.daemon("NameHasOwner", "s", [name]))[0])

    # --- Receiving --------------------------------------------------------------------------------

    def _on_message(self, message: Message) -> bool:
        kind = message.message_type
        if kind in (MessageType.METHOD_RETURN, MessageType.ERROR):
            self._on_reply(message)
            return True
        try:
            if kind is MessageType.METHOD_CALL:
                self.on_call(message)
            else:
                self._on_signal(message)
        finally:
            close_descriptors(message)
        return True

    def _on_reply(self, message: Message) -> None:
        future = self._replies.get(message.reply_serial)
        if future is not None and not future.done():
            future.set_result(message)
            return
        close_descriptors(message)
        refused = self._refusals.pop(message.reply_serial, None)
        if refused is not None and message.sender == names.DAEMON:
            refused()

    def _on_signal(self, message: Message) -> None:
        if message.sender == names.DAEMON and message.member == "NameOwnerChanged":
            name, _, owner = message.body
            if name in self._watched:
                self._watched[name](owner)
        else:
            self.on_signal(message)

    def _refuse(self, message: Message) -> None:
        if not message.flags & MessageFlag.NO_REPLY_EXPECTED:
            self.send(Message.new_error(message, f"{names.DAEMON}.Error.UnknownMethod", "No methods here."))

    # --- Tasks ------------------------------------------------------------------------------------

    async def _pump(self) -> None:
        while not self.lost.done():
            while self._queue:
                message, sent = self._queue[0]
                try:
                    await self._bus.send(message)
                except Exception as error:  # the loss is noticed in _await_loss; anything else is a defect
                    log.exception("message %s %s could not be sent", message.interface, message.member)
                    self._fail(message, error)
                self._queue.popleft()
                if not sent.done():
                    sent.set_result(None)
            self._queued.clear()
            await self._queued.wait()

    def _fail(self, message: Message, error: Exception) -> None:
        """Tell who waits for the reply to ``message`` that there will be none."""
        future = self._replies.get(message.serial)
        if future is not None and not future.done():
            future.set_exception(InternalError(detail=type(error).__name__))

    async def _await_loss(self) -> None:
        try:
            await self._bus.wait_for_disconnect()
        except Exception as error:  # whatever broke it, the connection is gone
            log.debug("bus connection ended: %r", error)
        self._tasks[0].cancel()
        self.lost.set_result(self._closing)
        failure = ServiceUnavailable(LOST)
        for future in self._replies.values():
            if not future.done():
                future.set_exception(failure)
        for _, sent in self._queue:
            if not sent.done():
                sent.set_result(None)
        self._queue.clear()


def _owner_rule(name: str) -> str:
    return (
        f"type='signal',sender='{names.DAEMON}',path='{names.DAEMON_PATH}',"
        f"interface='{names.DAEMON}',member='NameOwnerChanged',arg0='{name}'"
    )


def close_descriptors(message: Message) -> None:
    """Close the descriptors that came with ``message``."""
    for descriptor in message.unix_fds or ():
        os.close(descriptor)
    message.unix_fds = []


def take_descriptor(message: Message, index: int) -> int:
    """Return descriptor ``index`` of ``message``, made private to this process, and close the others.

    Raises:
        InternalError: the message carries no such descriptor.
    """
    descriptors, message.unix_fds = list(message.unix_fds or ()), []
    if index >= len(descriptors):
        raise InternalError(detail="a reply came without its descriptor")
    wanted = descriptors.pop(index)
    for descriptor in descriptors:
        os.close(descriptor)
    os.set_inheritable(wanted, False)  # dbus-next receives without MSG_CMSG_CLOEXEC
    return wanted
