"""The converter's work directory: results of finished steps, kept under the hash of what they came from."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kylin_gguf.errors import Busy, KylinError, NoSpace

_KEY_CHARS = 16
_FULL_BYTES = 1 << 20
_FULL_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_KEPT = 32
_STALE_SECONDS = 7 * 24 * 3600


def key_of(inputs: Mapping[str, Any]) -> str:
    """Return a name that changes whenever ``inputs``, JSON-able, do."""
    canonical = json.dumps(inputs, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:_KEY_CHARS]


@contextmanager
def locked_directory(root: Path, key: str) -> Iterator[Path]:
    """Make ``root``/``key``, private to the user, and hold it for this process.

    Raises:
        Busy: another process is converting the same thing.
    """
    directory = root / key
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (directory / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Busy("conversions of this model", 1) from error
        yield directory


def require_space(path: Path, needed: int) -> None:
    """Check that ``needed`` bytes fit where ``path`` is or will be.

    Raises:
        NoSpace: they do not.
    """
    existing = next(parent for parent in (path, *path.parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise NoSpace(str(path), needed, free)


@contextmanager
def blaming_full_disk(path: Path, needed: int) -> Iterator[None]:
    """Where the block fails and the disk of ``path``, of which it wrote ``needed`` bytes, is full, say so.

    Tools say something of a stream, or nothing. What is half-written must still be there when the block ends.

    Raises:
        NoSpace: in place of what the block raised.
    """
    try:
        yield
    except (OSError, KylinError) as error:
        free = shutil.disk_usage(path.parent).free
        if free < _FULL_BYTES or getattr(error, "errno", None) in _FULL_ERRORS:
            raise NoSpace(str(path.parent), needed, free) from error
        raise


def prune(root: Path) -> None:
    """Delete what will hardly be used again: all but the newest directories, and intermediates of a week ago.

    What a finished conversion leaves is small, its importance matrix; an interrupted one may leave gigabytes.
    """
    directories = sorted(root.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    for directory in directories[_KEPT:]:
        shutil.rmtree(directory, ignore_errors=True)
    for path in root.glob("*/model-*"):
        if time.time() - path.stat().st_mtime > _STALE_SECONDS:
            path.unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Flush ``path``, a file or a directory, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def flushing(path: Path, flushed: Path) -> Iterator[None]:
    """Flush ``path`` to the disk while the block runs, and make the empty file ``flushed`` once it is there.

    A disk takes longer for gigabytes than the step that wrote them, and the next step has them in memory.
    """

    def flush() -> None:
        sync(path)
        flushed.touch()

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(flush)
        yield
        done.result()


def write_atomically(path: Path, text: str) -> None:
    """Write a text file so that it appears whole or not at all."""
    partial = path.with_name(f".{path.name}.part")
    try:
        partial.write_text(text, encoding="utf-8")
        sync(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
