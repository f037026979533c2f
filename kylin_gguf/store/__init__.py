"""Models on disk: which are installed, where they are, and how they get there and away.

All of it blocks; callers with an event loop use a thread.
"""

from __future__ import annotations

from typing import Any

from kylin_gguf.catalogue import Catalogue, notice
from kylin_gguf.errors import ModelError, NoSpace, NotLocal, SourcesExhausted
from kylin_gguf.records import (
    InstalledModel,
    Model,
    Progress,
    ProgressCallback,
    RemoteModel,
    Settings,
    no_progress,
)
from kylin_gguf.sources import CancelCheck
from kylin_gguf.store.library import Library
from kylin_gguf.store.manifest import Manifest
from kylin_gguf.store.pull import Puller

__all__ = ["Manifest", "Store", "notice"]

DEFAULT = "default"
"""The name that means the best default model that can be had."""


class Store:
    """The models of one user: a writable directory of their own, and the system's read-only ones."""

    def __init__(self, settings: Settings, catalogue: Catalogue) -> None:
        self._settings = settings
        self._catalogue = catalogue
        self._library = Library(settings.models_dir, settings.system_model_dirs, catalogue)
        self._puller = Puller(settings.models_dir, self._library)

    def installed(self) -> tuple[InstalledModel, ...]:
        """Return every installed model, the user's own first; headers are not read."""
        return self._library.installed()

    def resolve(self, name_or_path: str, purpose: str = "a file") -> InstalledModel:
        """Return the model meant by a catalogue name, an installed file's stem, or the path of a GGUF.

        Text with a slash or ending in ``.gguf`` is a path. The file's header is read and checked.

        Raises:
            NotLocal: a server has it, which cannot give ``purpose``.
            UnknownModel: no such name; near names are given.
            ModelNotInstalled: a name of the catalogue whose file is not here.
            FileMissing, NotGguf, TruncatedGguf: the file cannot be used.
            UnsupportedModel: it is GGUF but holds no model (an adapter, an importance matrix).
        """
        if remote := self._library.remote(name_or_path):
            raise NotLocal(remote.name, remote.host, purpose)
        return self._library.resolve(name_or_path)

    def find(self, name_or_path: str) -> Model:
        """Return as ``resolve`` what is meant, which may also be a server's model. That is meant only by its
        name, and not if an installed file has the same one."""
        return self._library.remote(name_or_path) or self._library.resolve(name_or_path)

    def remotes(self) -> tuple[RemoteModel, ...]:
        """Return the models of servers that can be named."""
        installed = {model.name for model in self.installed()}
        return tuple(model for model in self._catalogue.remotes if model.name not in installed)

    def default(self) -> InstalledModel:
        """Return the model to use when none is named.

        That is the configured one, else the first installed of the catalogue's defaults, else any that
        can chat.

        Raises:
            ModelNotInstalled: there is none; carries the last default's name, the easiest to get.
            KylinError: as ``resolve``, for the configured one.
        """
        if self._settings.default_model:
            return self.resolve(self._settings.default_model, "answers to who names no model")
        return self._library.default()

    def default_embedder(self) -> InstalledModel:
        """Return the model that makes vectors of texts when none is named: the first installed of the
        catalogue's embedding models, else any other.

        Raises:
            ModelNotInstalled: there is none; carries the name of one that can be installed.
            UnknownModel: there is none, and the catalogue knows none.
        """
        return self._library.default_embedder()

    def default_name(self) -> str:
        """Return the name of ``default``, empty when there is none that can be used."""
        try:
            return self.default().name
        except ModelError:  # whoever asks for the default model itself is told why
            return ""

    def listing(self) -> list[dict[str, Any]]:
        """Return every model of the catalogue and every other installed one, as JSON objects. Files that hold
        no model, such as a projector, are left out: nobody can talk with them.

        Keys: ``name``, ``local``, ``installed``, ``default``, ``size`` (bytes; 0 where unknown), ``path`` (""
        when not installed); for models of the catalogue also ``title``, ``languages``, ``licence``; for those
        of servers ``title`` and ``remote``, the server.
        """
        installed = {model.name: model for model in self._library.models()}
        default = self.default_name()
        rows: list[dict[str, Any]] = [
            {
                "name": entry.name,
                "title": entry.title,
                "size": entry.size,
                "languages": list(entry.languages),
                "licence": entry.licence.id,
            }
            for entry in self._catalogue.models
        ]
        rows += [{"name": name} for name in installed if name not in self._catalogue.names()]
        for row in rows:
            model = installed.get(row["name"])
            row["installed"] = model is not None
            row["default"] = row["name"] == default
            row["path"] = str(model.path) if model else ""
            row["local"] = True
            if model:
                row["size"] = model.size
        return [*rows, *map(_remote_row, self.remotes())]

    def manifest(self, model: InstalledModel) -> Manifest | None:
        """Return where ``model`` came from, or None if ``pull`` did not install it."""
        return Manifest.read(model.path)

    def pull(
        self,
        name: str = DEFAULT,
        progress: ProgressCallback = no_progress,
        cancelled: CancelCheck = lambda: False,
    ) -> InstalledModel:
        """Install the catalogue's ``name`` from the first of its sources that delivers; return it.

        "" and "default" mean the first of the catalogue's defaults that can be had. A model that is here
        already is returned at once. Each source that fails is told to ``progress`` as a stage of its own,
        with the reason. An interrupted pull resumes. Two pulls of one model wait for each other.

        Raises:
            UnknownModel: no such name.
            NotLocal: a server has it.
            SourcesExhausted: no source delivered; ``attempts`` has the reasons.
            ChecksumMismatch: no source delivered, and one delivered other bytes than the pinned ones.
            NoSpace: the disk is too full.
            NotWritable: the directory for models cannot be written.
            Cancelled: ``cancelled`` returned True.
        """
        if name not in ("", DEFAULT):
            return self._puller.pull(self._catalogue.get(name), progress, cancelled)
        return self._pull_default(progress, cancelled)

    def _pull_default(self, progress: ProgressCallback, cancelled: CancelCheck) -> InstalledModel:
        attempts: list[str] = []
        too_big: NoSpace | None = None
        for name in self._catalogue.defaults:
            if attempts or too_big:
                progress(Progress(f"instead: {name}", 0))
            try:
                return self._puller.pull(self._catalogue.get(name), progress, cancelled)
            except SourcesExhausted as error:
                attempts += error.attempts
            except NoSpace as error:  # a smaller one may fit
                progress(Progress(str(error), 0))
                too_big = too_big or error
        raise too_big or SourcesExhausted(DEFAULT, tuple(attempts))

    def remove(self, name: str) -> None:
        """Delete the installed model ``name`` and its manifest.

        Raises:
            UnknownModel, ModelNotInstalled, NotLocal: it is not installed.
            ModelReadOnly: it is installed system-wide.
        """
        if remote := self._library.remote(name):
            raise NotLocal(remote.name, remote.host, "a file to delete")
        self._library.remove(name)


def _remote_row(model: RemoteModel) -> dict[str, Any]:
    of_files = {"size": 0, "installed": False, "default": False, "path": ""}
    return {"name": model.name, "title": model.title, "local": False, "remote": model.host, **of_files}
