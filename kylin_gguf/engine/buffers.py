"""How much memory llama.cpp has taken where, by its own account.

``llama_get_memory_breakdown`` returns a C++ map, so the log is what a program in another language can read:
one line for each buffer when a model is loaded and when a context is made.
"""

from __future__ import annotations

import re

_LINE = re.compile(r":\s+(\S+)\s+(model|output|KV|RS|compute) buffer size =\s*([\d.]+) MiB$")
_ADDED = ("model", "KV", "RS")
_MIB = 1 << 20


class BufferSizes:
    """Adds up the buffers that llama.cpp's log tells of. ``found`` has bytes by buffer type and purpose."""

    def __init__(self) -> None:
        self.found: dict[str, dict[str, int]] = {}

    def __call__(self, line: str) -> None:
        """Take one line of the log. A model can have several files and caches; a compute buffer that is told
        of again has replaced the one before."""
        match = _LINE.search(line)
        if not match:
            return
        device, purpose, size = match.groups()
        sizes = self.found.setdefault(device, {})
        before = sizes.get(purpose.lower(), 0) if purpose in _ADDED else 0
        sizes[purpose.lower()] = before + round(float(size) * _MIB)
