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
