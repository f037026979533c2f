"""What is to be converted: a checkpoint folder or a GGUF, opened and checked."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kylin_convert import lora, remote
from kylin_convert.arch import family_of
from kylin_convert.arch.base import Family
from kylin_convert.arch.pooling import pooling_file
from kylin_convert.checkpoint import INDEX, Checkpoint
from kylin_convert.upstream import UpstreamCheckpoint
from kylin_convert.writer import output_bytes, write_gguf
from kylin_gguf import catalogue, gguf_info
from kylin_gguf.errors import FileMissing, NotACheckpoint
from kylin_gguf.gguf_info import GgufInfo, shards
from kylin_gguf.records import Progress, ProgressCallback, Settings
from kylin_gguf.store import Store

# What beside the weights decides what is written.
_SIDE_FILES = (
    "config.json",
    "generation_config.json",
    INDEX,
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "added_tokens.json",
    "sentencepiece.bpe.model",
    "modules.json",
    "chat_template.jinja",
    "chat_template.json",
    "README.md",
)
_HASH_BLOCK = 1 << 22


@dataclass(frozen=True)
class Source:
    """An opened source: ``family`` of a checkpoint, ``upstream`` where there is none, ``model`` for a GGUF.

    ``revision`` is the hub's commit, empty for local files. ``files`` are all that the result depends on.
    """

    name: str
    path: Path
    revision: str
    files: tuple[Path, ...]
    family: Family | None = None
    upstream: UpstreamCheckpoint | None = None
    model: GgufInfo | None = None

    @property
    def kind(self) -> Literal["checkpoint", "gguf"]:
        """Which of the two it is."""
        return "gguf" if self.model else "checkpoint"

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(path.stat().st_size for path in self.files)

    @property
    def is_bf16(self) -> bool:
        """Whether all matrices of a checkpoint are BF16."""
        opened = self.family or self.upstream
        stored = opened.checkpoint.tensors.values() if opened else ()
        found = {tensor.precision for tensor in stored if tensor.is_float and len(tensor.shape) > 1}
        return found == {"BF16"}

    def unquantised_bytes(self, form: str) -> int:
        """Return the size of the intermediate GGUF in ``form``; 0 where the source is one already."""
        if self.upstream:
            return self.upstream.output_bytes(form)
        return output_bytes(self.family.tensors(), form) if self.family else 0

    def write_unquantised(
        self, path: Path, form: str, settings: Settings, progress: ProgressCallback
    ) -> None:
        """Write the intermediate GGUF of a checkpoint; it appears whole or not at all.

        Raises:
            BadCheckpoint: as ``writer.write_gguf``.
            LibrariesMissing, ToolFailed: as ``UpstreamCheckpoint.write``.
        """
        if self.upstream:
            self.upstream.write(path, form, settings, progress)
        elif self.family:
            write_gguf(self.family, path, form, progress)

    def hashes(self, progress: ProgressCallback) -> dict[str, str]:
        """Return the SHA-256 of each file by name."""
        done, total = 0, self.size
        result = {}
        for path in self.files:
            digest = hashlib.sha256()
            for block in _blocks(path):
                digest.update(block)
                done += len(block)
                progress(Progress("hash", done, total))
            result[self._name_of(path)] = digest.hexdigest()
        return result

    def _name_of(self, path: Path) -> str:
        folder = self.path.parent if self.model else self.path
        # An adapter's files lie in a folder of their own.
        return (path.relative_to(folder if path.is_relative_to(folder) else path.parent.parent)).as_posix()


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(_HASH_BLOCK):
            yield block


def open_path(path: Path, name: str = "", revision: str = "") -> Source:
    """Open a folder or file. ``name`` is what the user called it, where that is not the path.

    Raises:
        FileMissing: there is nothing at ``path``.
        NotACheckpoint: it is neither a checkpoint folder nor a GGUF.
        BadCheckpoint, UnknownArchitecture, NotGguf, TruncatedGguf: it is one, but not a usable one.
    """
    path = path.absolute()
    if path.is_dir():
        return _open_checkpoint(Checkpoint.open(path), name or str(path), revision)
    if not path.is_file():
        raise FileMissing(str(path), "no such file or folder")
    with path.open("rb") as file:
        if file.read(len(gguf_info.MAGIC)) != gguf_info.MAGIC:
            raise NotACheckpoint(str(path), "it is a file but not a GGUF")
    model = shards.read(path)
    return Source(name or str(path), model.path, revision, shards.files(path), model=model)


def _open_checkpoint(checkpoint: Checkpoint, name: str, revision: str, *more: Path) -> Source:
    """Return the source that ``checkpoint`` is; ``more`` are files outside its folder that it depends on."""
    family, path = family_of(checkpoint), checkpoint.folder
    if family is not None:
        family.tensors()  # refuses what is missing or misshapen before any work is done
    elif more:
        reason = (
            f"an adapter of {checkpoint.architecture}, which is left to upstream's converter, is not merged"
        )
        raise NotACheckpoint(name, reason)
    upstream = None if family else UpstreamCheckpoint.open(checkpoint)
    names = [*checkpoint.weight_files, *(n for n in _SIDE_FILES if (path / n).is_file())]
    files = [path / n for n in names] + sorted(path.glob("additional_chat_templates/*.jinja"))
    files += [file for file in (pooling_file(path),) if file]
    return Source(name, path, revision, (*files, *more), family, upstream)


def open_source(
    text: str, settings: Settings, progress: ProgressCallback, *, outline: bool = False
) -> Source:
    """Open what the user named: a path, an installed or catalogued model, or a repository (``remote.parse``).

    With ``outline`` the weights of a repository are not downloaded: enough for a plan. An adapter's are.

    Raises:
        SourceFailed, ChecksumMismatch, NoSpace: the hub did not deliver, or there is no room for it.
        UnknownModel, ModelNotInstalled: neither a path nor a usable name.
        KylinError: as ``open_path``, and of an adapter as ``lora.merge``.
    """
    path = Path(text)
    if path.exists() or path.suffix == ".gguf" or path.is_absolute():
        found = _Found(path.absolute(), str(path.absolute()), "")
    elif reference := remote.parse(text):
        snapshot = remote.fetch(reference, settings, progress, _check, outline=outline)
        found = _Found(snapshot.folder, text, snapshot.revision)
    else:
        installed = Store(settings, catalogue.load(settings.catalogue)).resolve(text)
        found = _Found(installed.path, installed.name, "")
    if lora.is_adapter(found.path):
        return _open_adapter(found, settings, progress)
    return open_path(found.path, found.name, found.revision)


def _check(folder: Path) -> None:
    """Refuse what cannot be converted while its weights are still on the hub."""
    if not lora.is_adapter(folder):
        open_path(folder)


@dataclass(frozen=True)
class _Found:
    path: Path
    name: str
    revision: str


def _open_adapter(found: _Found, settings: Settings, progress: ProgressCallback) -> Source:
    """Open the checkpoint that an adapter belongs to, a folder or a repository, with the adapter added."""
    base = open_base(lora.base_name(found.path), found.name, settings, progress)
    merged = lora.merge(base, found.path)
    files = [found.path / name for name in (lora.CONFIG, lora.WEIGHTS)]
    return _open_checkpoint(merged, found.name, found.revision, *files)


def open_base(
    text: str, adapter: str, settings: Settings, progress: ProgressCallback, *, outline: bool = False
) -> Checkpoint:
    """Open the checkpoint ``text``, a folder or a repository, that ``adapter`` belongs to.

    With ``outline`` the weights of a repository are not downloaded.

    Raises:
        NotACheckpoint: it is neither.
        KylinError: as ``open_source``.
    """
    folder = Path(text)
    if not folder.is_dir():
        reference = remote.parse(text)
        if reference is None:
            reason = f"its base model '{text}' is neither a folder nor a repository"
            raise NotACheckpoint(adapter, reason)
        folder = remote.fetch(reference, settings, progress, _check, outline=outline).folder
    return Checkpoint.open(folder.absolute())
