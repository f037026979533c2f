"""When energy is saved, and what a plan says of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kylin_gguf.gguf_info import GgufInfo
from kylin_gguf.offload.machine import Machine
from kylin_gguf.offload.plan import Request, plan
from kylin_gguf.offload.power import reason, saves
from kylin_gguf.records import Power, PowerMode
from tests.unit.offload.random_pairs import machines, models

powers = st.builds(
    Power,
    on_battery=st.sampled_from([None, False, True]),
    profile=st.sampled_from(["", "power-saver", "balanced", "performance", "unheard-of"]),
    hot=st.booleans(),
)


@pytest.mark.parametrize(
    ("power", "expected"),
    [
        (Power(), False),
        (Power(on_battery=False, profile="balanced"), False),
        (Power(on_battery=True), True),
        (Power(on_battery=True, profile="balanced"), True),
        (Power(on_battery=True, profile="performance"), False),
        (Power(on_battery=False, profile="power-saver"), True),
        (Power(on_battery=False, profile="performance", hot=True), True),
    ],
)
def test_auto_saves_on_battery_or_when_the_desktop_or_heat_asks(power: Power, expected: bool) -> None:
    assert saves("auto", power) is expected


@given(power=powers)
def test_the_setting_has_the_last_word(power: Power) -> None:
    assert saves("saving", power) and not saves("speed", power)


@given(power=powers, mode=st.sampled_from(["auto", "speed", "saving"]), meter=st.sampled_from(["", "RAPL"]))
def test_a_plan_gives_a_reason_exactly_where_energy_is_saved(
    power: Power, mode: PowerMode, meter: str
) -> None:
    said = reason(mode, power, meter)
    assert bool(said) == saves(mode, power)
    assert not said or (meter in said if meter else "nothing here measures" in said)


@given(machine=machines, model=models, power=powers)
def test_power_changes_no_placement(machine: Machine, model: GgufInfo, power: Power) -> None:
    """Threads are chosen from step to step; what lies where is a matter of memory and speed."""
    request = Request(4096)
    before = plan(model, machine, request)
    after = plan(model, replace(machine, power=power, meter="battery"), request)
    assert replace(after, reasons=()) == replace(before, reasons=())
    assert set(before.reasons) <= set(after.reasons)
