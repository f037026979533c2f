"""Signs of heat, on directories that look like the kernel's."""

from __future__ import annotations

from pathlib import Path

import pytest

from kylin_gguf.offload.heat import COOL_S, Heat


class Zone:
    def __init__(self, root: Path, cooled_by: str, trips: dict[str, int]) -> None:
        self.path = root / f"thermal_zone{len(list(root.glob('*')))}"
        (self.path / "cdev0").mkdir(parents=True)
        (self.path / "cdev0" / "type").write_text(f"{cooled_by}\n")
        for number, (kind, limit) in enumerate(trips.items()):
            (self.path / f"trip_point_{number}_type").write_text(f"{kind}\n")
            (self.path / f"trip_point_{number}_temp").write_text(f"{limit}\n")
        self.is_at(40_000)

    def is_at(self, millidegrees: int) -> None:
        (self.path / "temp").write_text(f"{millidegrees}\n")


@pytest.fixture
def clock() -> list[float]:
    return [1000.0]


def heat(root: Path, clock: list[float]) -> Heat:
    return Heat(root / "thermal", root / "cpu", lambda: clock[0])


@pytest.mark.parametrize("cooled_by", ["Processor", "cpufreq-cpu0", "thermal-cpufreq-0"])
def test_a_zone_at_its_passive_trip_is_hot_for_a_while(
    tmp_path: Path, clock: list[float], cooled_by: str
) -> None:
    zone = Zone(
        tmp_path / "thermal", cooled_by, {"critical": 105_000, "passive": 90_000, "active": 30_000, "hot": 0}
    )
    found = heat(tmp_path, clock)
    assert not found.hot(), "a fan that runs is no sign"
    zone.is_at(90_000)
    assert found.hot()
    zone.is_at(80_000)
    clock[0] += COOL_S - 1
    assert found.hot()
    clock[0] += 1
    assert not found.hot()


@pytest.mark.parametrize("trips", [{"passive": -274_000}, {"passive": 0}, {"critical": 10_000}, {}])
def test_trip_points_that_are_not_in_use_say_nothing(
    tmp_path: Path, clock: list[float], trips: dict[str, int]
) -> None:
    Zone(tmp_path / "thermal", "Processor", trips)
    assert not heat(tmp_path, clock).hot()


def test_a_zone_that_cools_something_else_says_nothing(tmp_path: Path, clock: list[float]) -> None:
    Zone(tmp_path / "thermal", "iwlwifi", {"passive": 30_000})
    assert not heat(tmp_path, clock).hot()


def test_a_count_of_throttling_that_grows_is_hot(tmp_path: Path, clock: list[float]) -> None:
    directory = tmp_path / "cpu" / "cpu1" / "thermal_throttle"
    directory.mkdir(parents=True)
    for name in ("core_throttle_count", "package_throttle_count"):
        (directory / name).write_text("7\n")
    found = heat(tmp_path, clock)
    assert not found.hot(), "what was before the service came is over"
    (directory / "package_throttle_count").write_text("8\n")
    assert found.hot()
    clock[0] += COOL_S
    assert not found.hot()


def test_a_machine_that_tells_nothing_is_not_hot(tmp_path: Path, clock: list[float]) -> None:
    zone = Zone(tmp_path / "thermal", "Processor", {"passive": 50_000})
    found = heat(tmp_path, clock)
    (zone.path / "temp").unlink()
    assert not found.hot()
    assert not heat(tmp_path / "missing", clock).hot()
