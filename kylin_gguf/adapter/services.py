"""What the adapter needs of D-Bus; ``bus.desktop`` provides it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from kylin_gguf.records import ResultValue

Given = bool | int | float | str


@dataclass(frozen=True)
class Member:
    """A method or a property of one object; when ``path`` ends in ``/*``, of each object directly below."""

    bus: str
    dest: str
    path: str
    interface: str
    name: str

    @classmethod
    def of(cls, bus: str, dest: str, path: str, dotted: str) -> Member:
        """Return the member ``dotted``, which is an interface, a dot and a name."""
        interface, _, name = dotted.rpartition(".")
        return cls(bus, dest, path, interface, name)

    def __str__(self) -> str:
        return f"{self.interface}.{self.name} of {self.dest} {self.path} on the {self.bus} bus"


class Services(Protocol):
    """The D-Bus services of the desktop and of the system.

    Arguments are given as plain values and sent with the types that the service's introspection states. Every
    method raises Unavailable when the service, the object or the member is not there, and Failed when the
    service answers with an error or with what is no plain value.
    """

    async def probe(self, member: Member) -> None:
        """Return when the service of ``member`` runs or can be started; nothing is asked of it."""

    async def check(self, member: Member, arguments: int) -> None:
        """Return when ``member`` can be called with so many arguments."""

    async def check_property(self, member: Member) -> None:
        """Return when ``member`` is a property that is there."""

    async def call(self, member: Member, arguments: Sequence[Given]) -> ResultValue | None:
        """Call ``member`` and return its first result, of the first object where there are several."""

    async def get(self, member: Member) -> ResultValue:
        """Return the value of a property, of the first object where there are several."""

    async def set(self, member: Member, value: Given) -> None:
        """Change a property, of every object where there are several."""


@dataclass(frozen=True)
class Property:
    """One property, with the services by which it is read and changed."""

    services: Services
    member: Member

    async def probe(self) -> None:
        """As ``Services.probe``."""
        await self.services.probe(self.member)

    async def check(self) -> None:
        """As ``Services.check_property``."""
        await self.services.check_property(self.member)

    async def get(self) -> ResultValue:
        """As ``Services.get``."""
        return await self.services.get(self.member)

    async def set(self, value: Given) -> None:
        """As ``Services.set``."""
        await self.services.set(self.member, value)
