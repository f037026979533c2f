"""The processor's energy meters, on a directory that looks like theirs."""

from __future__ import annotations

from pathlib import Path

import pytest

from kylin_gguf.engine.energy import EnergyMeter


class Zone:
    def __init__(self, root: Path, directory: str, name: str, count: int, wrap: int = 1_000_000_000) -> None:
        self.path = root / directory
        self.path.mkdir()
        (self.path / "name").write_text(f"{name}\n")
        (self.path / "max_energy_range_uj").write_text(f"{wrap}\n")
        self.count(count)

    def count(self, microjoules: int) -> None:
        (self.path / "energy_uj").write_text(f"{microjoules}\n")


def test_packages_are_summed_and_nothing_is_counted_twice(tmp_path: Path) -> None:
    zones = [
        Zone(tmp_path, "intel-rapl:0", "package-0", 5_000_000),
        Zone(tmp_path, "intel-rapl:1", "package-1", 9_000_000),
        Zone(tmp_path, "intel-rapl:0:0", "core", 1_000_000),
        Zone(tmp_path, "intel-rapl:2", "psys", 1_000_000),
        Zone(tmp_path, "intel-rapl-mmio:0", "package-0", 5_000_000),
    ]
    (tmp_path / "intel-rapl").mkdir()
    meter = EnergyMeter(tmp_path)
    assert meter.joules() == 0.0
    for zone, microjoules in zip(
        zones, (7_500_000, 10_000_000, 2_000_000, 4_000_000, 7_500_000), strict=True
    ):
        zone.count(microjoules)
    assert meter.joules() == pytest.approx(2.5 + 1.0)


def test_a_counter_that_wraps_goes_on(tmp_path: Path) -> None:
    zone = Zone(tmp_path, "intel-rapl:0", "package-0", 262_000_000, wrap=262_143_328)
    meter = EnergyMeter(tmp_path)
    zone.count(856_672)
    assert meter.joules() == pytest.approx(1.0)
    zone.count(1_856_672)
    assert meter.joules() == pytest.approx(2.0)


def test_no_meter_gives_no_figure(tmp_path: Path) -> None:
    assert EnergyMeter(tmp_path).joules() is None
    assert EnergyMeter(tmp_path / "missing").joules() is None


def test_a_meter_that_may_not_be_read_gives_no_figure(tmp_path: Path) -> None:
    zone = Zone(tmp_path, "intel-rapl:0", "package-0", 1)
    (zone.path / "energy_uj").unlink()  # root in a container may read what a user may not
    assert EnergyMeter(tmp_path).joules() is None
    zone.count(1)
    meter = EnergyMeter(tmp_path)
    assert meter.joules() == 0.0
    (zone.path / "energy_uj").unlink()
    assert meter.joules() is None
