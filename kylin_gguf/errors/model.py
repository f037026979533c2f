"""Models and files that cannot be found or used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from kylin_gguf.errors.base import KylinError
from kylin_gguf.translation import N_


class ModelError(KylinError):
    """A model that cannot be found or used."""

    code: ClassVar[str] = "model"


@dataclass(eq=False)
class UnknownModel(ModelError):
    """A name that is neither in the catalogue nor a file."""

    code: ClassVar[str] = "model.unknown"
    sentence: ClassVar[str] = N_("There is no model named '{name}'.")
    remedy: ClassVar[str] = N_("Similar names: {near}. 'kylin-gguf models' lists all.")
    name: str
    near: tuple[str, ...]


@dataclass(eq=False)
class ModelNotInstalled(ModelError):
    """A catalogue model whose file is not on this machine."""

    code: ClassVar[str] = "model.not-installed"
    sentence: ClassVar[str] = N_("The model '{name}' is not installed.")
    remedy: ClassVar[str] = N_("Install it with 'kylin-gguf pull {name}'.")
    name: str


@dataclass(eq=False)
class FileMissing(ModelError):
    """A path that does not exist or cannot be read."""

    code: ClassVar[str] = "model.file-missing"
    sentence: ClassVar[str] = N_("{path} cannot be read: {reason}.")
    remedy: ClassVar[str] = N_("Check the path and its permissions.")
    path: str
    reason: str


@dataclass(eq=False)
class NotGguf(ModelError):
    """A file that is not GGUF, or whose header breaks the specification."""

    code: ClassVar[str] = "model.not-gguf"
    sentence: ClassVar[str] = N_("{path} is not a usable GGUF file: {reason}.")
    remedy: ClassVar[str] = N_("Convert a model with 'kylin-gguf convert' or pull one again.")
    path: str
    reason: str


@dataclass(eq=False)
class TruncatedGguf(ModelError):
    """A GGUF that ends before its tensors do. Sizes in bytes."""

    code: ClassVar[str] = "model.truncated"
    sentence: ClassVar[str] = N_("{path} is cut short: {actual} of at least {expected} bytes.")
    remedy: ClassVar[str] = N_("Download or convert it again.")
    path: str
    expected: int
    actual: int


@dataclass(eq=False)
class UnsupportedModel(ModelError):
    """A well-formed GGUF that this engine cannot run for the purpose asked."""

    code: ClassVar[str] = "model.unsupported"
    sentence: ClassVar[str] = N_("{path} cannot be used here: {reason}.")
    remedy: ClassVar[str] = N_("'kylin-gguf models' lists models that can.")
    path: str
    reason: str


@dataclass(eq=False)
class CatalogueInvalid(ModelError):
    """A models.yaml that breaks its schema."""

    code: ClassVar[str] = "model.catalogue-invalid"
    sentence: ClassVar[str] = N_("Model catalogue {path}: {where}: {reason}.")
    remedy: ClassVar[str] = N_("Correct that entry.")
    path: str
    where: str
    reason: str


@dataclass(eq=False)
class ModelReadOnly(ModelError):
    """Removal of a model that lies in a system-wide, read-only directory."""

    code: ClassVar[str] = "model.read-only"
    sentence: ClassVar[str] = N_("'{name}' is installed system-wide at {path} and cannot be removed here.")
    remedy: ClassVar[str] = N_("Remove the package that installed it.")
    name: str
    path: str


@dataclass(eq=False)
class NotLocal(ModelError):
    """What only a model on this machine can do, asked of one that a server elsewhere runs."""

    code: ClassVar[str] = "model.not-local"
    sentence: ClassVar[str] = N_(
        "'{name}' is not on this machine but on {host}, and cannot be used for {what}."
    )
    remedy: ClassVar[str] = N_("Name a model of this machine; 'kylin-gguf models' lists them.")
    name: str
    host: str
    what: str
