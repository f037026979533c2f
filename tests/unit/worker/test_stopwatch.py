"""The times and the energy of one request."""

from __future__ import annotations

import pytest

from kylin_gguf.energy import EnergyMeter
from kylin_gguf.engine.tasks.stopwatch import Stopwatch
from kylin_gguf.records import Usage


class Time:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class TenWatts(EnergyMeter):
    def __init__(self, time: Time) -> None:
        self._time = time

    def joules(self) -> float:
        return 10.0 * self._time.now


class NoMeter(EnergyMeter):
    def __init__(self) -> None:
        pass

    def joules(self) -> None:
        return None


def measured(meter: EnergyMeter, time: Time) -> Usage:
    stopwatch = Stopwatch(meter, time)
    time.now += 2.0
    stopwatch.started()
    time.now += 0.5
    for gap in (0.1, 0.3, 0.2, 0.4):
        stopwatch.token()
        time.now += gap
    return stopwatch.usage(prompt_tokens=12, cached_tokens=2)


def test_each_part_of_a_request_is_measured() -> None:
    time = Time()
    usage = measured(TenWatts(time), time)
    assert (usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens) == (12, 2, 4)
    assert usage.queue_s == pytest.approx(2.0)
    assert usage.prefill_s == pytest.approx(0.5)
    assert usage.first_token_s == pytest.approx(2.5)
    assert usage.decode_s == pytest.approx(1.0)
    assert usage.total_s == pytest.approx(3.5)
    assert usage.longest_gap_s == pytest.approx(0.3), "after the last token there is no gap"
    assert usage.prefill_tokens_per_s == pytest.approx(10 / 0.5)
    assert usage.decode_tokens_per_s == pytest.approx(3 / 1.0)
    assert usage.energy_j == pytest.approx(15.0), "not what others used while it waited"


def test_without_a_meter_the_energy_is_left_out() -> None:
    usage = measured(NoMeter(), Time())
    assert usage.energy_j is None and "energy_j" not in usage.to_json()
    assert Usage(**usage.to_json()).energy_j is None


def test_a_request_that_never_got_a_slot_only_waited() -> None:
    time = Time()
    stopwatch = Stopwatch(TenWatts(time), time)
    time.now += 3.0
    usage = stopwatch.usage(prompt_tokens=5, cached_tokens=0)
    assert (usage.queue_s, usage.total_s) == (3.0, 3.0)
    assert (usage.prefill_s, usage.decode_s, usage.first_token_s, usage.longest_gap_s) == (0, 0, 0, 0)
    assert (usage.prefill_tokens_per_s, usage.decode_tokens_per_s) == (0, 0)
    assert usage.energy_j is None


def test_a_request_that_ended_in_its_prefill_drew_nothing() -> None:
    time = Time()
    stopwatch = Stopwatch(TenWatts(time), time)
    stopwatch.started()
    time.now += 1.0
    usage = stopwatch.usage(prompt_tokens=5, cached_tokens=0)
    assert (usage.prefill_s, usage.first_token_s, usage.prefill_tokens_per_s) == (1.0, 0.0, 0.0)
