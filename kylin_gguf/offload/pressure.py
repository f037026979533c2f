"""Whether programs wait for memory: pressure stall information of the kernel (PSI, since Linux 4.20)."""

from __future__ import annotations

from pathlib import Path

SCARCE = 20.0
"""Percent of the last ten seconds in which some program stood still for want of memory. A desktop that swaps
a little shows a few percent; from about this on, it stutters."""


def memory_pressure(path: Path = Path("/proc/pressure/memory")) -> float:
    """Return that percentage; 0 where the kernel does not tell."""
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except OSError:
        return 0.0
    for line in lines:
        kind, *fields = line.split()
        values = dict(field.partition("=")[::2] for field in fields)
        if kind == "some" and "avg10" in values:
            return float(values["avg10"])
    return 0.0
