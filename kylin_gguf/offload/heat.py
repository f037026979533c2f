"""Whether the processor is too warm to run as fast as it could."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

THERMAL = Path("/sys/class/thermal")
PROCESSORS = Path("/sys/devices/system/cpu")

COOL_S = 30.0
"""How long after its last sign heat is still believed in: what throttles goes on and off within seconds."""


class Heat:
    """Looks for two signs: a zone at the temperature from which the kernel slows the processor down (its
    ``passive`` trip point, sysfs-class-thermal), and the processor's own count of such events
    (``thermal_throttle``, Intel)."""

    def __init__(
        self,
        thermal: Path = THERMAL,
        processors: Path = PROCESSORS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._zones = tuple(_zones(thermal))
        self._counters = sorted(processors.glob("cpu[0-9]*/thermal_throttle/*_throttle_count"))
        self._clock = clock
        self._counted = self._count()
        self._seen = float("-inf")

    def hot(self) -> bool:
        """Return whether there was a sign within the last half minute. Only what is asked for is seen: ask
        every few seconds. It reads some files, which firmware may answer slowly."""
        before, self._counted = self._counted, self._count()
        if self._counted > before or any(_temperature(zone) >= limit for zone, limit in self._zones):
            self._seen = self._clock()
        return self._clock() - self._seen < COOL_S

    def _count(self) -> int:
        return sum(_number(path) or 0 for path in self._counters)


def _zones(thermal: Path) -> Iterator[tuple[Path, int]]:
    """Yield each zone that cools by slowing the processor down, with the millidegrees at which that
    begins."""
    for zone in sorted(thermal.glob("thermal_zone*")):
        cooled_by = [_text(path) for path in zone.glob("cdev*/type")]
        if not any("cpu" in kind or "processor" in kind for kind in map(str.lower, cooled_by)):
            continue
        trips = [path for path in zone.glob("trip_point_*_type") if _text(path) == "passive"]
        told = (_number(path.with_name(path.name.replace("_type", "_temp"))) for path in trips)
        limits = [
            limit for limit in told if limit and limit > 0
        ]  # firmware states what it does not use as such
        if limits:
            yield zone, min(limits)


def _temperature(zone: Path) -> float:
    told = _number(zone / "temp")
    return float("-inf") if told is None else told


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


def _number(path: Path) -> int | None:
    try:
        return int(_text(path))
    except ValueError:
        return None
