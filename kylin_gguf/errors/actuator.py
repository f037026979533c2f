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


@dataclass(eq=False)
class ConfirmationNeeded(ActuatorError):
    """A command that is carried out only once the user has said yes."""

    code: ClassVar[str] = "actuator.confirmation-needed"
    sentence: ClassVar[str] = N_("The command {command} needs the user's consent.")
    remedy: ClassVar[str] = N_("Ask the user, then call again with the option 'confirmed'.")
    command: str


@dataclass(eq=False)
class NothingToConfirm(ActuatorError):
    """A yes or no that no command is waiting for."""

    code: ClassVar[str] = "actuator.nothing-to-confirm"
    sentence: ClassVar[str] = N_("No command is waiting for a yes or a no.")
    remedy: ClassVar[str] = N_("The time to answer may have passed; ask for the command again.")


@dataclass(eq=False)
class ExecutorFailed(ActuatorError):
    """The program that carries a command out is not there, or its answer is not one."""

    code: ClassVar[str] = "actuator.executor-failed"
    sentence: ClassVar[str] = N_("{executor} could not be asked to carry the command out: {reason}.")
    executor: str
    reason: str


@dataclass(eq=False)
class ExecutorTimeout(ActuatorError):
    """The program that carries a command out has not answered in time. What it has done is not known."""

    code: ClassVar[str] = "actuator.executor-timeout"
    sentence: ClassVar[str] = N_("{executor} has not answered within {seconds} seconds.")
    remedy: ClassVar[str] = N_("The command may still be carried out; look before you try again.")
    executor: str
    seconds: int
