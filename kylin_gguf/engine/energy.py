"""How much energy the processor packages take, by their own meters (RAPL).

Intel's and AMD's meters both appear as ``intel-rapl`` zones under ``/sys/class/powercap``. Since Linux 5.10
only root may read them unless the administrator allows it: the figure is there where it can be had.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")

# Not intel-rapl:0:0, which is a part of intel-rapl:0, nor intel-rapl-mmio:0, the same package once more.
_PACKAGE = re.compile(r"intel-rapl:\d+")


class EnergyMeter:
    """The sum over all packages: all that they did, not one process's share. GPUs on cards are not in it."""

    def __init__(self, root: Path = POWERCAP) -> None:
        """Find the meters under ``root``."""
        self._zones: list[tuple[Path, int]] = []
        self._last: list[int] = []
        self._total = 0  # microjoules
        try:
            zones = sorted(path for path in root.iterdir() if _PACKAGE.fullmatch(path.name))
            for zone in zones:
                if (zone / "name").read_text(encoding="ascii").startswith("package"):  # "psys" is another
                    self._zones.append((zone / "energy_uj", _number(zone / "max_energy_range_uj")))
            self._last = [_number(counter) for counter, _ in self._zones]
        except (OSError, ValueError):
            self._zones = []

    def joules(self) -> float | None:
        """Return the energy since this object was made; None where there is no meter that may be read.

        A counter wraps after some ten minutes to hours of full load. That is noticed if calls are not further
        apart.
        """
        if not self._zones:
            return None
        try:
            counts = [_number(counter) for counter, _ in self._zones]
        except (OSError, ValueError):
            return None
        for (_, wrap), before, now in zip(self._zones, self._last, counts, strict=True):
            self._total += now - before if now >= before else now - before + wrap
        self._last = counts
        return self._total / 1e6


@cache
def packages() -> EnergyMeter:
    """Return this machine's meter, which all requests share so that it is read often."""
    return EnergyMeter()


def _number(path: Path) -> int:
    return int(path.read_text(encoding="ascii"))
