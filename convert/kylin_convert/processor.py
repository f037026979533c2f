"""What this machine's processor is good at, as far as llama.cpp makes use of it."""

from __future__ import annotations

import re
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")


def multiplies_bf16(cpuinfo: Path = _CPUINFO) -> bool:
    """Return whether matrices of BF16 are multiplied no slower than those of F16.

    llama.cpp has kernels for them from AVX2 on, and with AVX512-BF16 they are the faster ones
    (ggml/src/ggml-cpu/llamafile/sgemm.cpp). For Arm it has none: each row is multiplied by itself.
    """
    flags = re.search(r"^flags\s*:(.*)$", cpuinfo.read_text(encoding="utf-8"), re.MULTILINE)
    return flags is not None and "avx2" in flags[1].split()
