"""Checkpoints from a hub: ``owner/name``, ``owner/name@revision``, ``modelscope:owner/name``.

What a conversion reads, and no more, is downloaded into the cache, one folder a revision. An interrupted
download resumes, each file is compared with the hub's own hash where it gives one, and without a connection
the copy of the last time is used.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from kylin_convert.remote.listing import Listing, RemoteFile, needed
from kylin_convert.remote.outline import sketch
from kylin_convert.work import locked_directory
from kylin_gguf.errors import ChecksumMismatch, NotACheckpoint, SourceFailed
from kylin_gguf.records import Progress, ProgressCallback, Settings, no_progress
from kylin_gguf.sources import http
from kylin_gguf.sources.base import require_space

_NAME = re.compile(
    r"(?:(?P<hub>hf|modelscope):)?(?P<id>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@(?P<revision>[\w./-]+))?"
)
_MODULES = {"hf": "huggingface", "modelscope": "modelscope"}
_REVISION = "revision"
"""A file beside the folders of a repository: for each revision that was asked for, the commit it was."""
_HASH_BLOCK = 1 << 22


@dataclass(frozen=True)
class Reference:
    """A repository as the user named it; ``revision`` is empty for the hub's default."""

    hub: str
    repository: str
    revision: str

    @property
    def label(self) -> str:
        """What errors call it."""
        return f"{self.hub} {self.repository}" + (f"@{self.revision}" if self.revision else "")


@dataclass(frozen=True)
class Snapshot:
    """A downloaded revision of a repository."""

    folder: Path
    revision: str


def parse(text: str) -> Reference | None:
    """Return the repository that ``text`` names, None if it has not the form of one."""
    found = _NAME.fullmatch(text)
    if found is None or ".." in (found["revision"] or ""):
        return None
    return Reference(found["hub"] or "hf", found["id"], found["revision"] or "")


def fetch(
    reference: Reference,
    settings: Settings,
    progress: ProgressCallback,
    check: Callable[[Path], object] = lambda _: None,
    *,
    outline: bool = False,
) -> Snapshot:
    """Download what a conversion needs of ``reference`` into the cache, resuming what is there.

    Before the weights, ``check`` gets a folder that is the checkpoint but for them (``remote.outline``), and
    may raise. With ``outline`` that folder is the result, unless the weights are there already.

    Raises:
        SourceFailed: the hub cannot be reached, or refuses, and there is no earlier copy.
        NotACheckpoint: the repository has no weights that can be read.
        NoSpace: the disk would not hold the files.
        ChecksumMismatch: a file is not what the hub says it is.
        Busy: another process is downloading it.
    """
    root = settings.cache_dir / "checkpoints" / reference.hub
    with locked_directory(root, reference.repository.replace("/", "--")) as directory:
        return _fetch(reference, _Store(directory, reference), progress, check, outline)


def _fetch(
    reference: Reference,
    store: _Store,
    progress: ProgressCallback,
    check: Callable[[Path], object],
    outline: bool,
) -> Snapshot:
    hub = import_module(f"{__name__}.{_MODULES[reference.hub]}")
    list_files: Callable[[str, str, str], Listing] = hub.list_files
    try:
        listing = list_files(reference.label, reference.repository, reference.revision)
    except SourceFailed:
        if (earlier := store.earlier()) is not None:
            return earlier
        folder: Path | None = hub.cached(reference.repository, reference.revision)
        if folder is None:
            raise
        return Snapshot(folder, folder.name)
    files = needed(listing.files)
    if not any(file.is_weights for file in files):
        raise NotACheckpoint(reference.label, "the repository has no weights that can be read")
    if not outline:
        store.require_space(listing, files)
    sketched = store.outline(listing, files)
    if sketched is not None:
        check(sketched.folder)
        if outline:
            return sketched
    return store.fill(listing, files, progress)


class _Store:
    """The folders of one repository in the cache, which this process has locked."""

    def __init__(self, directory: Path, reference: Reference) -> None:
        self._directory = directory
        self._label = reference.label
        self._note = self._directory / f"{_REVISION}-{reference.revision.replace('/', '--')}"

    def earlier(self) -> Snapshot | None:
        """Return what the revision was when it was last downloaded as a whole."""
        if not self._note.is_file():
            return None
        commit = self._note.read_text("utf-8")
        return Snapshot(self._directory / commit, commit)

    def outline(self, listing: Listing, files: tuple[RemoteFile, ...]) -> Snapshot | None:
        """Make the folder without weights; None where they are here, or of the form that has no header."""
        real = self._folder(listing)
        missing = [file for file in files if file.is_weights and not self._is_whole(real / file.name, file)]
        if not missing or any(file.is_pickled for file in missing):
            return None
        folder = real.with_name(f"outline-{real.name}")
        for file in files:
            target = folder / file.name
            if file in missing and file.local is None:
                sketch(self._label, file, listing.headers, target)
                continue
            if not self._is_whole(real / file.name, file):
                self._download(real, file, listing, _Shifted(no_progress, 0, 0))
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            target.symlink_to(real / file.name)
        return Snapshot(folder, listing.revision)

    def require_space(self, listing: Listing, files: tuple[RemoteFile, ...]) -> None:
        """Raise NoSpace unless what is missing of ``files`` fits."""
        folder = self._folder(listing)
        missing = [file for file in files if not file.local and not self._is_whole(folder / file.name, file)]
        started = sum(_size(folder / f"{file.name}.part") for file in missing)
        require_space(self._directory, sum(file.size for file in missing) - started)

    def _folder(self, listing: Listing) -> Path:
        # A branch's name may have slashes; a hub that gives no commit gives that.
        return self._directory / listing.revision.replace("/", "--")

    def fill(self, listing: Listing, files: tuple[RemoteFile, ...], progress: ProgressCallback) -> Snapshot:
        """Download what is missing of ``files``."""
        folder = self._folder(listing)
        folder.mkdir(parents=True, exist_ok=True)
        missing = [file for file in files if not self._is_whole(folder / file.name, file)]
        total, done = sum(file.size for file in files), sum(f.size for f in files if f not in missing)
        for file in missing:
            self._download(folder, file, listing, _Shifted(progress, done, total))
            done += file.size
        self._note.write_text(folder.name, "utf-8")
        self._forget()
        return Snapshot(folder, listing.revision)

    def _forget(self) -> None:
        """Delete what a branch was before: a checkpoint has gigabytes, and nobody asks for it again."""
        kept = {note.read_text("utf-8") for note in self._directory.glob(f"{_REVISION}-*")}
        for folder in self._directory.iterdir():
            if folder.is_dir() and folder.name not in kept:
                shutil.rmtree(folder)

    @staticmethod
    def _is_whole(path: Path, file: RemoteFile) -> bool:
        # It was compared with its hash when it was put there.
        return path.is_file() and (not file.size or path.stat().st_size == file.size)

    def _download(self, folder: Path, file: RemoteFile, listing: Listing, progress: _Shifted) -> None:
        target = folder / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        if file.local is not None:
            target.unlink(missing_ok=True)  # a link to what is there no more
            target.symlink_to(file.local.resolve())
            return
        fetched = target.with_name(f".{target.name}.unverified") if file.sha256 else target
        request = http.Download(
            label=self._label,
            url=file.url,
            target=fetched,
            size=file.size,
            pinned=bool(file.sha256),
            headers=listing.headers,
        )
        if not file.size or _size(fetched) != file.size:  # else it was killed before the hash was computed
            http.download(request, progress, lambda: False)
        if not file.sha256:
            return
        if (actual := _sha256(fetched)) != file.sha256:
            fetched.unlink()
            raise ChecksumMismatch(file.name, file.sha256, actual)
        fetched.replace(target)


@dataclass(frozen=True)
class _Shifted:
    """Progress of one file as progress of all."""

    progress: ProgressCallback
    before: int
    total: int

    def __call__(self, event: Progress) -> None:
        self.progress(Progress("download", self.before + event.done, self.total))


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
