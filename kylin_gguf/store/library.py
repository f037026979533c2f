"""The directories with models: listing, finding, removing."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from pathlib import Path
from stat import S_ISREG
from typing import Final

from kylin_gguf import gguf_info
from kylin_gguf.catalogue import Catalogue
from kylin_gguf.errors import (
    FileMissing,
    KylinError,
    ModelNotInstalled,
    ModelReadOnly,
    UnknownModel,
    UnsupportedModel,
    near,
)
from kylin_gguf.gguf_info import GgufInfo, shards
from kylin_gguf.records import InstalledModel, RemoteModel
from kylin_gguf.store.manifest import Manifest

_SUFFIX: Final = ".gguf"


class Library:
    """One writable directory and any number of read-only ones; the first that has a name wins."""

    def __init__(self, own: Path, shared: tuple[Path, ...], catalogue: Catalogue) -> None:
        self._own = own
        self._shared = shared
        self._catalogue = catalogue
        self._names = {entry.file: entry.name for entry in catalogue.models}

    def installed(self) -> tuple[InstalledModel, ...]:
        found: dict[str, InstalledModel] = {}
        for directory in (self._own, *self._shared):
            for model in self._in(directory):
                found.setdefault(model.name, model)
        return tuple(found.values())

    def _in(self, directory: Path) -> Iterator[InstalledModel]:
        try:
            # The catalogue's own files first: another file's stem may be the name of a catalogue model.
            paths = sorted(directory.iterdir(), key=lambda path: (path.name not in self._names, path.name))
        except OSError:  # not made yet, or not for us to read: no models there
            return
        for path in paths:
            if path.suffix != _SUFFIX or path.name.startswith("."):
                continue
            try:
                found = path.stat()
            except OSError:  # deleted since the directory was listed, or a link to nothing
                continue
            if not S_ISREG(found.st_mode):
                continue
            try:
                parts = shards.files(path)
                size = found.st_size + sum(part.stat().st_size for part in parts[1:])
            except (FileMissing, OSError):  # of a model in several files, not all of which are there
                continue
            if path == parts[0]:  # the others come with it
                name = self._names.get(path.name, shards.SUFFIX.sub("", path.stem))
                yield InstalledModel(name, path, size, directory == self._own)

    def models(self) -> tuple[InstalledModel, ...]:
        """Return as ``installed``, without the files that hold something else: projectors, adapters. Those of
        which nothing can be said, because they are broken, are among them."""
        return tuple(model for model in self.installed() if not _is_known_otherwise(model))

    def find(self, name: str) -> InstalledModel | None:
        """Return the installed model called ``name``, if there is one."""
        return next((model for model in self.installed() if model.name == name), None)

    def remote(self, name: str) -> RemoteModel | None:
        """Return the server's model that is called ``name``, if no installed one is."""
        return None if self.find(name) else self._catalogue.remote(name)

    def resolve(self, name_or_path: str) -> InstalledModel:
        model = self.find(name_or_path) or self._at_path(name_or_path)
        info = shards.read(model.path)
        if not _is_model(info):
            raise UnsupportedModel(str(model.path), _instead(info))
        return model

    def _at_path(self, text: str) -> InstalledModel:
        if os.sep not in text and not text.endswith(_SUFFIX):
            raise self._not_found(text)
        path = Path(text).expanduser().absolute()
        try:
            path = shards.files(path)[0]
            stranger = InstalledModel(path.stem, path, path.stat().st_size, writable=False)
        except (OSError, ValueError) as error:  # ValueError: a NUL in the path
            raise FileMissing(str(path), getattr(error, "strerror", None) or str(error)) from error
        return next((model for model in self.installed() if model.path == path), stranger)

    def _not_found(self, name: str) -> KylinError:
        known = self._catalogue.names()
        if name in known:
            return ModelNotInstalled(name)
        remotes = (model.name for model in self._catalogue.remotes)
        return UnknownModel(name, near(name, [*known, *remotes, *(model.name for model in self.installed())]))

    def default(self) -> InstalledModel:
        installed = {model.name: model for model in self.installed()}
        for name in self._catalogue.defaults:
            if name in installed:
                return installed[name]
        chatting = {entry.name for entry in self._catalogue.models if "chat" in entry.suits}
        for model in installed.values():
            if model.name in chatting or (model.name not in self._catalogue.names() and _can_chat(model)):
                return model
        raise ModelNotInstalled(self._catalogue.defaults[-1])

    def default_embedder(self) -> InstalledModel:
        suited = [entry.name for entry in self._catalogue.models if "embedding" in entry.suits]
        installed = {model.name: model for model in self.installed()}
        for name in suited:
            if name in installed:
                return installed[name]
        for model in installed.values():
            if model.name not in self._catalogue.names() and _can_embed(model):
                return model
        raise ModelNotInstalled(suited[0]) if suited else UnknownModel("", ())

    def remove(self, name: str) -> None:
        model = self.find(name)
        if model is None:
            raise self._not_found(name)
        if not model.writable:
            raise ModelReadOnly(name, str(model.path))
        for part in shards.files(model.path):  # the first, without which none is a model, is the first to go
            part.unlink()
        Manifest.path(model.path).unlink(missing_ok=True)


def _is_model(info: GgufInfo) -> bool:
    return bool(info.kind == "model" and not info.projects and info.architecture and info.tensors)


def _is_known_otherwise(model: InstalledModel) -> bool:
    try:
        return not _read_is_model(model.path, model.path.stat().st_mtime_ns, model.size)
    except (KylinError, OSError):
        return False


@functools.lru_cache(maxsize=256)
def _read_is_model(path: Path, modified_ns: int, size: int) -> bool:
    """Reading a vocabulary's worth of header takes some 30 ms, and desktops ask for the list often."""
    return _is_model(shards.read(path))


def _instead(info: GgufInfo) -> str:
    """Return what a file holds that is no model, as the reason to refuse it."""
    if info.projects:
        return "it holds only a projector, which turns images or sound into a model's input; none is run here"
    return f"it holds no model but {info.kind}" if info.kind != "model" else "it holds no model"


def _can_chat(model: InstalledModel) -> bool:
    try:
        info = gguf_info.read(model.path)
    except KylinError:  # a broken file in the directory is not a default; 'resolve' says what is wrong
        return False
    return info.kind == "model" and info.has_chat_template and not info.embeds


def _can_embed(model: InstalledModel) -> bool:
    try:
        info = gguf_info.read(model.path)
    except KylinError:
        return False
    return info.kind == "model" and info.embeds
