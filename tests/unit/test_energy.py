"""Meters of energy, on directories that look like the kernel's."""

from __future__ import annotations

from pathlib import Path

import pytest

from kylin_gguf.energy import READ_EVERY_S, BatteryMeter, EnergyMeter, meter


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


class Battery:
    def __init__(self, root: Path, name: str = "BAT0", kind: str = "Battery", **files: str | int) -> None:
        self.path = root / name
        self.path.mkdir(parents=True)
        self.tell(type=kind, status="Discharging")
        self.tell(**files)

    def tell(self, **files: str | int) -> None:
        for name, content in files.items():
            (self.path / name).write_text(f"{content}\n")


class Time:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def after(meter: BatteryMeter, time: Time, seconds: float) -> float:
    """Return the joules of ``seconds`` from now on."""
    before = meter.joules()
    time.now += seconds
    now = meter.joules()
    assert before is not None and now is not None
    return now - before


@pytest.mark.parametrize(
    "files",
    [
        {"power_now": 12_500_000},
        {"power_now": -12_500_000},
        {"current_now": 1_000_000, "voltage_now": 12_500_000},
        {"current_now": -1_000_000, "voltage_now": 12_500_000},
    ],
)
def test_what_a_battery_gives_is_summed_up(tmp_path: Path, files: dict[str, int]) -> None:
    Battery(tmp_path, **files)
    Battery(tmp_path, "hidpp_battery_0", scope="Device", power_now=9_000_000)
    Battery(tmp_path, "AC", kind="Mains", power_now=9_000_000)
    time = Time()
    assert after(BatteryMeter(tmp_path, time), time, 4.0) == pytest.approx(50.0)


def test_two_batteries_are_one_machine_and_one_that_rests_gives_nothing(tmp_path: Path) -> None:
    first, second = Battery(tmp_path, power_now=6_000_000), Battery(tmp_path, "BAT1", power_now=4_000_000)
    time = Time()
    meter = BatteryMeter(tmp_path, time)
    assert after(meter, time, 3.0) == pytest.approx(30.0)
    second.tell(status="Not charging")
    time.now += READ_EVERY_S
    assert after(meter, time, 3.0) == pytest.approx(18.0)
    first.tell(status="Charging")
    time.now += READ_EVERY_S
    assert meter.joules() is None, "what comes from the wall is not counted"


def test_a_battery_is_not_asked_at_every_step(tmp_path: Path) -> None:
    battery, time = Battery(tmp_path, power_now=10_000_000), Time()
    meter = BatteryMeter(tmp_path, time)
    assert meter.joules() is not None
    battery.tell(power_now=90_000_000)
    assert after(meter, time, READ_EVERY_S / 2) == pytest.approx(10.0 * READ_EVERY_S / 2)


@pytest.mark.parametrize("files", [{}, {"current_now": 1}, {"power_now": "?"}])
def test_a_battery_that_does_not_tell_gives_no_figure(tmp_path: Path, files: dict[str, str | int]) -> None:
    Battery(tmp_path, **files)
    assert BatteryMeter(tmp_path).joules() is None


def test_the_quick_meter_is_taken_where_it_may_be_read_and_the_battery_only_on_battery(
    tmp_path: Path,
) -> None:
    powercap, supplies = tmp_path / "powercap", tmp_path / "power_supply"
    powercap.mkdir()
    Battery(supplies, power_now=10_000_000)

    def found(*, on_battery: bool) -> str:
        chosen = meter(on_battery=on_battery, powercap=powercap, supplies=supplies)
        return chosen.name if chosen else ""

    assert found(on_battery=False) == ""
    assert found(on_battery=True) == "battery"
    Zone(powercap, "intel-rapl:0", "package-0", 5)
    assert found(on_battery=False) == found(on_battery=True) == "RAPL"


def test_meters_that_only_root_may_read_are_told_from_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zone = Zone(tmp_path, "intel-rapl:0", "package-0", 5)
    read = Path.read_text

    def refuse(path: Path, encoding: str | None = None) -> str:
        if path == zone.path / "energy_uj":  # root in a container may read what a user may not
            raise PermissionError(13, "Permission denied", str(path))
        return read(path, encoding)

    monkeypatch.setattr(Path, "read_text", refuse)
    found = EnergyMeter(tmp_path)
    assert found.joules() is None and found.locked
    assert not EnergyMeter(tmp_path / "missing").locked
