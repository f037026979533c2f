"""What the caller said is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from kylin_gguf.errors.base import KylinError
from kylin_gguf.translation import N_


class UsageError(KylinError):
    """The request itself is wrong."""

    code: ClassVar[str] = "usage"


@dataclass(eq=False)
class UnknownOption(UsageError):
    """An option that this call does not have."""

    code: ClassVar[str] = "usage.unknown-option"
    sentence: ClassVar[str] = N_("Unknown option '{option}'.")
    remedy: ClassVar[str] = N_("Known options: {known}.")
    option: str
    known: tuple[str, ...]


@dataclass(eq=False)
class InvalidValue(UsageError):
    """A known option or argument with a value it cannot have."""

    code: ClassVar[str] = "usage.invalid-value"
    sentence: ClassVar[str] = N_("'{value}' is not a valid value for {name}.")
    remedy: ClassVar[str] = N_("Expected {expected}.")
    name: str
    value: str
    expected: str


@dataclass(eq=False)
class ConfigError(UsageError):
    """A configuration file or environment variable that cannot be used."""

    code: ClassVar[str] = "usage.config"
    sentence: ClassVar[str] = N_("Configuration {origin}: {key}: {reason}.")
    remedy: ClassVar[str] = N_("Correct or remove that entry.")
    origin: str
    key: str
    reason: str
