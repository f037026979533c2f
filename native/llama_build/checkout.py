"""Where things lie in one checkout, and which archive it pins."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from llama_build.steps import BuildFailed

_PIN = re.compile(
    r"^(?P<name>[\w-]+)==(?P<version>\S+)\s*\\\s*--hash=sha256:(?P<sha256>[0-9a-f]{64})\s*$", re.M
)


@dataclass(frozen=True)
class Pin:
    """The source archive, as native/requirements.txt names it."""

    name: str
    version: str
    sha256: str

    @classmethod
    def parse(cls, requirements: str) -> Pin:
        """Read the one hash-pinned requirement of ``requirements``; anything else is BuildFailed."""
        found = [cls(**match.groupdict()) for match in _PIN.finditer(requirements)]
        if len(found) != 1:
            raise BuildFailed("native/requirements.txt must pin exactly one archive by version and SHA-256")
        return found[0]

    @property
    def stem(self) -> str:
        """Name of the archive without its suffix, which is also its top directory (PEP 625)."""
        return f"{self.name.replace('-', '_')}-{self.version}"


class Tree:
    """Where things lie in one checkout."""

    def __init__(self, root: Path) -> None:
        self.native = root / "native"
        self.build = root / "build"
        self.root = root
        self.pin = Pin.parse((self.native / "requirements.txt").read_text(encoding="utf-8"))
        self.archive = self.build / "download" / f"{self.pin.stem}.tar.gz"
        self.source = self.build / "source" / self.pin.stem

    @property
    def llama_cpp(self) -> Path:
        """The llama.cpp tree within the unpacked source, which the patches are for."""
        return self.source / "vendor" / "llama.cpp"
