"""What every step of a build needs: saying, calling, failing, and leaving whole directories or none."""

from __future__ import annotations

import fcntl
import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

STAMP = "BUILD.json"


class BuildFailed(Exception):
    """A step that cannot go on; the text is for the user."""


def say(text: str) -> None:
    """Tell the user what happens now, between the lines of the tools called."""
    print(f"native: {text}", file=sys.stderr, flush=True)


def call(command: list[str], **options: Any) -> None:
    """Run ``command`` with its output shown; a failure is BuildFailed."""
    try:
        subprocess.run(command, check=True, **options)
    except (OSError, subprocess.CalledProcessError) as error:
        raise BuildFailed(str(error)) from error


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal; empty when there is no such file."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def exclusive(directory: Path) -> Iterator[None]:
    """Keep other runs of this script from making ``directory``, waiting for one that does."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    with directory.with_name(f".{directory.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def appearing(target: Path) -> Iterator[Path]:
    """Give an empty directory that replaces ``target`` when the block succeeds and vanishes when not."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as scratch:
        fresh = Path(scratch, "new")
        fresh.mkdir()
        yield fresh
        if target.exists():
            target.rename(Path(scratch, "old"))
        fresh.rename(target)


def read_stamp(directory: Path) -> dict[str, Any]:
    """Return what ``directory`` was made from; empty when it is unfinished or not there."""
    try:
        stamp = json.loads((directory / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def write_stamp(directory: Path, made_from: dict[str, Any]) -> None:
    """Record what ``directory`` was made from."""
    (directory / STAMP).write_text(json.dumps(made_from, indent=2) + "\n", encoding="utf-8")
