"""Commands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from kylin_gguf.errors.base import KylinError
from kylin_gguf.translation import N_


class ActuatorError(KylinError):
    """The command catalogue or an interpretation failed."""

    code: ClassVar[str] = "actuator"


@dataclass(eq=False)
class CommandsInvalid(ActuatorError):
    """A command catalogue that breaks its schema."""

    code: ClassVar[str] = "actuator.catalogue-invalid"
    sentence: ClassVar[str] = N_("Command catalogue {name}: {where}: {reason}.")
    remedy: ClassVar[str] = N_("docs/command-catalogue.md describes the format.")
    name: str
    where: str
    reason: str


@dataclass(eq=False)
class UnknownCatalogue(ActuatorError):
    """A command catalogue that nobody has registered."""

    code: ClassVar[str] = "actuator.unknown-catalogue"
    sentence: ClassVar[str] = N_("No command catalogue '{name}' is registered.")
    remedy: ClassVar[str] = N_("ListCatalogues names those that are; a catalogue leaves with its owner.")
    name: str
    similar: tuple[str, ...] = ()


@dataclass(eq=False)
class CatalogueLimit(ActuatorError):
    """A registration that would exceed what registered command catalogues may have together."""

    code: ClassVar[str] = "actuator.catalogue-limit"
    sentence: ClassVar[str] = N_("Registered command catalogues can have at most {limit} {what}.")
    remedy: ClassVar[str] = N_("Remove a catalogue first, or register a smaller one.")
    what: str
    limit: int
