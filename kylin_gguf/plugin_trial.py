"""Would a plug-in of llama.cpp crash the process that uses it? Tried in a child that may crash.

Loading one runs its vendor's driver, and the loader itself dies of a file that was cut short (SIGBUS). Asking
a device for its memory wakes it: CUDA's back end aborts where other programs left no room for that. Run as
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
_LOADED = b"loaded"


def crash(library: Path, plugin: Path) -> str:
    """Return how a process ends that loads ``plugin`` into ``library`` (libggml) and asks its devices for
    their memory; empty when it survives.

    A plug-in that is merely refused is no crash: whoever loads it is told why.
    """
    command = [sys.executable, "-P", "-m", __name__, str(library), str(plugin)]
    try:
        child = subprocess.run(command, capture_output=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return f"loading it takes more than {_SECONDS} seconds"
    if child.returncode < 0:
        ending = signal.Signals(-child.returncode).name
        if child.stdout.strip() == _LOADED:
            return f"its device does not wake ({ending}): its memory is full, or its driver broken"
        return f"loading it crashes ({ending}); the file or its driver is broken"
    return ""


def main() -> None:
    """Load the plug-in, ask for its devices' memory (ggml_backend_dev_memory), and end as the process of a
    model does, through its destructors."""
    path, plugin = sys.argv[1:]
    library = ctypes.CDLL(path)
    library.ggml_backend_load.restype = library.ggml_backend_reg_dev_get.restype = ctypes.c_void_p
    library.ggml_backend_reg_dev_count.restype = ctypes.c_size_t
    registered = ctypes.c_void_p(library.ggml_backend_load(os.fsencode(plugin)))
    os.write(sys.stdout.fileno(), _LOADED)
    if not registered:
        return
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    for index in range(library.ggml_backend_reg_dev_count(registered)):
        device = ctypes.c_void_p(library.ggml_backend_reg_dev_get(registered, ctypes.c_size_t(index)))
        library.ggml_backend_dev_memory(device, ctypes.byref(free), ctypes.byref(total))


if __name__ == "__main__":
    main()
