"""The bus."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from kylin_gguf.errors.base import KylinError
from kylin_gguf.translation import N_


class BusError(KylinError):
    """The D-Bus side failed."""

    code: ClassVar[str] = "bus"


@dataclass(eq=False)
class ServiceUnavailable(BusError):
    """The service does not run and could not be started."""

    code: ClassVar[str] = "bus.service-unavailable"
    sentence: ClassVar[str] = N_("The kylin-gguf service is not available: {reason}.")
    remedy: ClassVar[str] = N_("Start it with 'kylin-gguf serve' to see why, or run 'kylin-gguf doctor'.")
    reason: str


@dataclass(eq=False)
class AccessDenied(BusError):
    """An object that belongs to another connection."""

    code: ClassVar[str] = "bus.access-denied"
    sentence: ClassVar[str] = N_("{path} belongs to another client.")
    remedy: ClassVar[str] = N_("Create an object of your own.")
    path: str


@dataclass(eq=False)
class UnknownObject(BusError):
    """An object path, interface or member that does not exist (any more)."""

    code: ClassVar[str] = "bus.unknown-object"
    sentence: ClassVar[str] = N_("There is no {what} on the bus.")
    remedy: ClassVar[str] = N_("It may have been closed; see docs/dbus-api.md.")
    what: str


@dataclass(eq=False)
class PropertyReadOnly(BusError):
    """An attempt to set a property that only this service changes."""

    code: ClassVar[str] = "bus.property-read-only"
    sentence: ClassVar[str] = N_("The property {name} is read-only.")
    remedy: ClassVar[str] = N_("See docs/dbus-api.md for the methods that change it.")
    name: str


@dataclass(eq=False)
class FdPassingMissing(BusError):
    """A client asked for a stream without having negotiated file-descriptor passing."""

    code: ClassVar[str] = "bus.no-fd-passing"
    sentence: ClassVar[str] = N_("Your connection cannot receive file descriptors.")
    remedy: ClassVar[str] = N_("Negotiate Unix fd passing, or call Stream or Complete.")
