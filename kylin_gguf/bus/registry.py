"""The objects on the bus, who owns them, and what happens when an owner leaves."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import ClassVar, TypeVar

from dbus_next.message import Message

from kylin_gguf.bus import names, values
from kylin_gguf.bus.connection import Connection
from kylin_gguf.bus.contract import Interface
from kylin_gguf.errors import AccessDenied, Busy, ServiceUnavailable, UnknownObject

log = logging.getLogger(__name__)


class Published:
    """An object on the bus.

    Method ``CreateSession`` of the XML is answered by ``create_session(caller, *arguments)``, property
    ``LoadedModels`` by ``get_loaded_models()``; both are coroutines. ``owner`` is the unique name of the only
    connection that may use the object; empty: everyone.
    """

    interfaces: ClassVar[tuple[str, ...]]

    def __init__(self, registry: Registry, path: str, owner: str = "") -> None:
        self.registry = registry
        self.path = path
        self.owner = owner

    @property
    def finished(self) -> bool:
        """Whether the object is only kept to be read."""
        return False

    async def abandon(self) -> None:
        """Stop all work for the owner, who has left or has closed the object."""


P = TypeVar("P", bound=Published)


async def _ignore(_: str) -> None:
    """Ignore a departure."""


class Registry:
    """All published objects by path, with a limit on what each connection may hold.

    ``on_owner_gone`` is awaited with the unique name of a connection that has left, before its objects go.
    """

    def __init__(self, connection: Connection, contract: Mapping[str, Interface]) -> None:
        self.connection = connection
        self.contract = contract
        self.on_owner_gone: Callable[[str], Awaitable[None]] = _ignore
        self._objects: dict[str, Published] = {}
        self._owners: set[str] = set()
        self._last_wills: defaultdict[str, dict[str, Callable[[], None]]] = defaultdict(dict)
        self._held: Counter[tuple[str, str]] = Counter()
        self._numbers: Counter[str] = Counter()
        self._farewells: set[asyncio.Task[None]] = set()

    # --- Objects ----------------------------------------------------------------------------------

    def add(self, published: P) -> P:
        """Publish an object."""
        self._objects[published.path] = published
        return published

    def remove(self, published: Published) -> None:
        """Withdraw an object; doing it twice is harmless."""
        self._objects.pop(published.path, None)

    def __contains__(self, path: object) -> bool:
        return path in self._objects

    def find(self, path: str, caller: str) -> Published:
        """Return the object at ``path`` for use by ``caller``.

        Raises:
            UnknownObject: there is none.
            AccessDenied: it belongs to another connection.
        """
        if path not in self._objects:
            raise UnknownObject(f"object {path}")
        if self._objects[path].owner not in ("", caller):
            raise AccessDenied(path)
        return self._objects[path]

    def new_path(self, kind: str) -> str:
        """Return a path that was never used before for an object of ``kind``."""
        self._numbers[kind] += 1
        return names.child(kind, self._numbers[kind])

    def owned(self, owner: str) -> Iterator[Published]:
        """Yield the objects of one connection, oldest first."""
        yield from [o for o in self._objects.values() if o.owner == owner]

    def of_kind(self, kind: type[P]) -> Iterator[P]:
        """Yield the objects of one class, whoever owns them, oldest first."""
        yield from [o for o in self._objects.values() if isinstance(o, kind)]

    def children(self, path: str, caller: str) -> list[str]:
        """Return the names of the nodes directly below ``path`` that ``caller`` may see."""
        prefix = path.rstrip("/") + "/"
        visible = [p for p, o in self._objects.items() if o.owner in ("", caller) and p.startswith(prefix)]
        return sorted({p.removeprefix(prefix).split("/")[0] for p in visible})

    def active(self) -> bool:
        """Whether any connection holds an object that is not finished."""
        return any(o.owner and not o.finished for o in self._objects.values())

    def trim(self, owner: str) -> None:
        """Forget the oldest finished objects of ``owner`` beyond the number that is kept."""
        finished = [o for o in self.owned(owner) if o.finished]
        for published in finished[: -names.MAX_KEPT]:
            self.remove(published)

    # --- Owners -----------------------------------------------------------------------------------

    async def adopt(self, owner: str) -> None:
        """Make sure that the departure of ``owner`` is noticed. Call before making objects for it.

        Raises:
            UnknownObject: it has left already.
        """
        if owner in self._owners:
            return
        self._owners.add(owner)
        await self.connection.watch(owner, lambda new: None if new else self._on_gone(owner))
        if not await self.connection.has_owner(owner):  # left before the watch began
            self._on_gone(owner)
            raise UnknownObject(f"connection {owner}")

    def hold(self, owner: str, what: str, limit: int) -> Callable[[], None]:
        """Count one more of ``what`` for ``owner`` and return the function that gives it back.

        Raises:
            Busy: the connection holds ``limit`` of them.
        """
        if self._held[owner, what] >= limit:
            raise Busy(what, limit)
        self._held[owner, what] += 1
        held = [1]

        def release() -> None:
            if held:
                held.pop()
                self._held[owner, what] -= 1
                self._held += Counter()  # drops what fell to zero

        return release

    def on_leave(self, owner: str, what: str, do: Callable[[], None]) -> None:
        """Have ``do`` called when ``owner``, which was adopted, leaves; once for each ``what``."""
        self._last_wills[owner][what] = do

    def _on_gone(self, owner: str) -> None:
        self._owners.discard(owner)
        farewell = asyncio.get_running_loop().create_task(self._farewell(owner))
        self._farewells.add(farewell)
        farewell.add_done_callback(self._farewells.discard)

    async def _farewell(self, owner: str) -> None:
        await self.on_owner_gone(owner)  # first: a call that still runs may be making another object
        for published in list(self.owned(owner)):
            self.remove(published)
            try:
                await published.abandon()
            except Exception:  # one object's failure must not keep the others alive
                log.exception("stopping %s failed", published.path)
        for do in self._last_wills.pop(owner, {}).values():
            do()
        with contextlib.suppress(ServiceUnavailable):  # our own connection may be going, too
            await self.connection.unwatch(owner)

    async def close(self) -> None:
        """Abandon every object, as when all owners had left."""
        for published in list(self._objects.values()):
            self.remove(published)
            await published.abandon()
        for farewell in list(self._farewells):
            await farewell

    # --- Signals ----------------------------------------------------------------------------------

    def emit(
        self, published: Published, interface: str, signal: str, *arguments: object
    ) -> asyncio.Future[None]:
        """Send a signal of ``published`` to its owner, or to everyone when it has none.

        The future is done when the bus has taken it.
        """
        signature = self.contract[interface].signals[signal]
        body = values.body(signature, arguments)
        return self._send(published, Message.new_signal(published.path, interface, signal, signature, body))

    def announce(self, published: Published, interface: str, changed: Mapping[str, object]) -> None:
        """Send PropertiesChanged for those of ``changed`` whose changes the contract announces."""
        described = self.contract[interface]
        told = {
            name: values.typed(described.properties[name], value)
            for name, value in changed.items()
            if name in described.announced
        }
        if told:
            body = [interface, told, []]
            signal = ("PropertiesChanged", "sa{sv}as", body)
            self._send(published, Message.new_signal(published.path, names.PROPERTIES, *signal))

    def _send(self, published: Published, signal: Message) -> asyncio.Future[None]:
        if published.owner:
            signal.destination = published.owner
        return self.connection.send(signal)
