"""How much energy is used, by what the machine measures itself: processor packages (RAPL), batteries.

Intel's and AMD's meters of packages both appear as ``intel-rapl`` zones under ``/sys/class/powercap``. Since
Linux 5.10 only root may read them unless the administrator allows it: the figure is there where it can be
had. A battery tells how fast it is emptied, and anyone may read that.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Protocol

POWERCAP = Path("/sys/class/powercap")
SUPPLIES = Path("/sys/class/power_supply")

READ_EVERY_S = 2.0
"""How often a battery is asked. On many machines that is a question to another controller, and takes some ten
milliseconds."""

# Not intel-rapl:0:0, which is a part of intel-rapl:0, nor intel-rapl-mmio:0, the same package once more.
_PACKAGE = re.compile(r"intel-rapl:\d+")


class Meter(Protocol):
    """Counts joules. ``settle_s`` is how long after a change it still tells what was before, ``window_s`` for
    how long it has to be read to be believed."""

    name: str
    settle_s: float
    window_s: float

    def joules(self) -> float | None:
        """Return the energy since some moment; None where it cannot be told."""


class EnergyMeter:
    """The sum over all packages: all that they did, not one process's share. GPUs on cards are not in it."""

    name = "RAPL"
    settle_s, window_s = 0.0, 1.0  # it counts on every millisecond

    def __init__(self, root: Path = POWERCAP) -> None:
        """Find the meters under ``root``."""
        self._zones: list[tuple[Path, int]] = []
        self._last: list[int] = []
        self._total = 0  # microjoules
        self.locked = False
        """Whether there are meters that this user may not read."""
        try:
            zones = sorted(path for path in root.iterdir() if _PACKAGE.fullmatch(path.name))
            for zone in zones:
                if (zone / "name").read_text(encoding="ascii").startswith("package"):  # "psys" is another
                    self._zones.append((zone / "energy_uj", _number(zone / "max_energy_range_uj")))
            self._last = [_number(counter) for counter, _ in self._zones]
        except (OSError, ValueError) as error:
            self._zones = []
            self.locked = isinstance(error, PermissionError)

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


class BatteryMeter:
    """What the batteries give: the whole machine's energy, its screen's included, while it runs on them.

    They tell a rate (``power_now``, or ``current_now`` and ``voltage_now``; sysfs-class-power), which is
    summed up over time. What is left in them (``energy_now``) is told in steps of some ten joules: too
    coarse.
    """

    name = "battery"
    settle_s, window_s = 5.0, 10.0  # most tell the mean of the last seconds

    def __init__(self, root: Path = SUPPLIES, clock: Callable[[], float] = time.monotonic) -> None:
        """Find the batteries under ``root``."""
        self._batteries = sorted(path for path in root.glob("*") if _feeds_machine(path))
        self._clock = clock
        self._total = 0.0
        self._asked = float("-inf")
        self._counted = clock()
        self._watts: float | None = None

    def joules(self) -> float | None:
        """Return the energy since this object was made; None where no battery tells, or all are being
        charged."""
        now = self._clock()
        if now - self._asked >= READ_EVERY_S:
            self._asked = now
            told = [watts for path in self._batteries if (watts := _discharge(path)) is not None]
            self._watts = sum(told) if told else None
        seconds, self._counted = now - self._counted, now
        if self._watts is None:
            return None
        self._total += self._watts * seconds
        return self._total


def meter(*, on_battery: bool, powercap: Path = POWERCAP, supplies: Path = SUPPLIES) -> Meter | None:
    """Return what can tell the energy of a decode step here: RAPL, which is quick, else the battery if the
    machine runs on it; None where neither can be read."""
    found: tuple[Meter, ...] = (packages() if powercap == POWERCAP else EnergyMeter(powercap),)
    if on_battery:
        found += (BatteryMeter(supplies),)
    return next((one for one in found if one.joules() is not None), None)


@cache
def packages() -> EnergyMeter:
    """Return this machine's meter, which all requests share so that it is read often."""
    return EnergyMeter()


def _feeds_machine(path: Path) -> bool:
    """Return whether ``path`` is a battery of the machine, and not one of a mouse."""
    return _text(path / "type") == "Battery" and _text(path / "scope") != "Device"


def _discharge(path: Path) -> float | None:
    """Return the watts that a battery gives; None where it gives none or does not tell."""
    if _text(path / "status") != "Discharging":
        return None
    try:
        if (path / "power_now").exists():
            return abs(_number(path / "power_now")) / 1e6  # some drivers count what goes out as negative
        return abs(_number(path / "current_now")) * _number(path / "voltage_now") / 1e12
    except (OSError, ValueError):
        return None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


def _number(path: Path) -> int:
    return int(path.read_text(encoding="ascii"))
