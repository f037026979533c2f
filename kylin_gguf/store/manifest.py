"""The small JSON file beside an installed model that says where it came from."""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final, Self

FORMAT_VERSION: Final = 1


@dataclass(frozen=True)
class Manifest:
    """What ``pull`` knew. ``installed`` is UTC, ISO 8601; ``skipped`` are the sources that failed before."""

    name: str
    file: str
    size: int
    sha256: str
    source: str
    revision: str
    licence: str
    installed: str
    skipped: tuple[str, ...] = ()
    pull_format: int = field(default=FORMAT_VERSION)

    @staticmethod
    def path(model: Path) -> Path:
        """Return where the manifest of the file ``model`` lies."""
        return model.with_name(model.name + ".json")

    @classmethod
    def read(cls, model: Path) -> Self | None:
        """Return the manifest of ``model``, or None: it has none, or one that another program wrote."""
        try:
            value = json.loads(cls.path(model).read_text(encoding="utf-8"))
            manifest = cls(**{**value, "skipped": tuple(value["skipped"])})
        except (OSError, ValueError, TypeError, KeyError):
            return None
        return manifest if manifest.pull_format == FORMAT_VERSION else None

    def write(self, model: Path) -> None:
        """Put the manifest beside ``model``, whole or not at all."""
        text = json.dumps(asdict(self), ensure_ascii=False, indent=1) + "\n"
        write_atomically(self.path(model), text.encode())


def write_atomically(path: Path, content: bytes) -> None:
    """Write ``path`` under a temporary name, make it durable, and rename it into place."""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
        os.chmod(temporary, 0o644)
        install(Path(temporary), path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def install(temporary: Path, path: Path) -> None:
    """Make ``temporary`` durable and rename it to ``path``, durably; both are on one file system."""
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
