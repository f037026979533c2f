"""Where llama.cpp's libraries and tools lie on this machine."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from kylin_gguf.errors import LibrariesMissing
from kylin_gguf.records import Settings

CORE_LIBRARY = "libllama.so"


@dataclass(frozen=True)
class NativeLibraries:
    """One build of llama.cpp: libraries, plug-ins and tools, all in ``directory``."""

    directory: Path

    def tool(self, name: str) -> Path:
        """Return the path of a tool such as ``llama-quantize``, which finds the plug-ins beside it.

        Raises:
            LibrariesMissing: this build has no such tool.
        """
        path = self.directory / name
        if not (path.is_file() and os.access(path, os.X_OK)):
            raise LibrariesMissing((str(path),))
        return path


def find(settings: Settings) -> NativeLibraries:
    """Return the first of ``settings.native_dirs`` that holds llama.cpp's libraries.

    Raises:
        LibrariesMissing: none does.
    """
    for directory in settings.native_dirs:
        if (directory / CORE_LIBRARY).is_file():
            return NativeLibraries(directory.resolve())
    raise LibrariesMissing(tuple(str(directory) for directory in settings.native_dirs))
