"""Getting models and putting them in place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from kylin_gguf.errors.base import KylinError
from kylin_gguf.translation import N_


class StoreError(KylinError):
    """A file that could not be fetched or put in place. Nothing half-written is left."""

    code: ClassVar[str] = "store"


@dataclass(eq=False)
class NoSpace(StoreError):
    """Too little free disk space. Sizes in bytes."""

    code: ClassVar[str] = "store.no-space"
    sentence: ClassVar[str] = N_("{path} needs {needed} bytes and has {free} free.")
    remedy: ClassVar[str] = N_("Free some space, or choose another directory.")
    path: str
    needed: int
    free: int


@dataclass(eq=False)
class NotWritable(StoreError):
    """A directory that files cannot be put into."""

    code: ClassVar[str] = "store.not-writable"
    sentence: ClassVar[str] = N_("{path} cannot be written: {reason}.")
    remedy: ClassVar[str] = N_("Check its owner and permissions, or choose another directory.")
    path: str
    reason: str


@dataclass(eq=False)
class ChecksumMismatch(StoreError):
    """A download whose bytes are not the pinned ones; it is deleted."""

    code: ClassVar[str] = "store.checksum"
    sentence: ClassVar[str] = N_("{name} has SHA-256 {actual}, expected {expected}.")
    remedy: ClassVar[str] = N_("The file was discarded; try another source.")
    name: str
    expected: str
    actual: str


@dataclass(eq=False)
class SourceFailed(StoreError):
    """One source of a model did not deliver."""

    code: ClassVar[str] = "store.source-failed"
    sentence: ClassVar[str] = N_("{source}: {reason}.")
    remedy: ClassVar[str] = ""
    source: str
    reason: str


@dataclass(eq=False)
class SourcesExhausted(StoreError):
    """Every source of a model failed; ``attempts`` says why, in the order tried."""

    code: ClassVar[str] = "store.sources-exhausted"
    sentence: ClassVar[str] = N_("'{name}' could not be fetched from any source: {attempts}.")
    remedy: ClassVar[str] = N_("Check the network, HF_ENDPOINT and HF_HUB_OFFLINE, or name a local file.")
    name: str
    attempts: tuple[str, ...]


@dataclass(eq=False)
class UnknownKeptSession(StoreError):
    """A kept session that does not exist (any more)."""

    code: ClassVar[str] = "store.unknown-session"
    sentence: ClassVar[str] = N_("No session is kept as '{session}'.")
    remedy: ClassVar[str] = N_("It may have been deleted; ListSessions lists those there are.")
    session: str


@dataclass(eq=False)
class KeptSessionsUnusable(StoreError):
    """The file that kept sessions are in cannot be read or written; nothing was changed in it."""

    code: ClassVar[str] = "store.sessions-unusable"
    sentence: ClassVar[str] = N_("Kept sessions in {path} cannot be used: {reason}.")
    remedy: ClassVar[str] = N_("Check the disk and the file's permissions; sessions that are not kept work.")
    path: str
    reason: str


@dataclass(eq=False)
class UploadFailed(StoreError):
    """A finished file that a hub did not take."""

    code: ClassVar[str] = "store.upload-failed"
    sentence: ClassVar[str] = N_("{path} could not be uploaded to {repository}: {reason}.")
    remedy: ClassVar[str] = N_("The file is finished and stays where it is; check HF_TOKEN and the network.")
    path: str
    repository: str
    reason: str
