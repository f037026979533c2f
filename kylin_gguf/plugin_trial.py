"""Would a plug-in of llama.cpp crash the process that loads it? Tried in a child that may crash.

Loading one runs its vendor's driver, and the loader itself dies of a file that was cut short (SIGBUS). Run as
``python -m kylin_gguf.plugin_trial LIBRARY PLUGIN``, this is that child.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path

_SECONDS = 30
"""More than a driver takes that compiles or wakes something; a hang is a crash for our purposes."""


def crash(library: Path, plugin: Path) -> str:
    """Return how a process ends that loads ``plugin`` into ``library`` (libggml); empty when it survives.

    A plug-in that is merely refused is no crash: whoever loads it is told why.
    """
    command = [sys.executable, "-P", "-m", __name__, str(library), str(plugin)]
    try:
        child = subprocess.run(command, capture_output=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return f"loading it takes more than {_SECONDS} seconds"
    if child.returncode < 0:
        return (
            f"loading it crashes ({signal.Signals(-child.returncode).name}); the file or its driver is broken"
        )
    return ""


def main() -> None:
    """Load the plug-in and end as the process of a model does, through its destructors."""
    library, plugin = sys.argv[1:]
    ctypes.CDLL(library).ggml_backend_load(os.fsencode(plugin))


if __name__ == "__main__":
    main()
