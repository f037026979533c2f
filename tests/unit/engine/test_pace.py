"""How prompts are cut beside streams, on steps whose times are made up."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from kylin_gguf.engine.pace import PLAIN_EVERY, STRETCH, TICK_S, Pace

Cost = Callable[[int], float]
"""Seconds of a batch by its tokens."""


def linear(tokens: int) -> float:
    return 0.010 + 0.004 * (tokens - 1)


def blocks_of_four(tokens: int) -> float:
    """As with repacked weights: what does not fill a block is computed row by row."""
    return 0.030 * (tokens // 4 * 2.6 + tokens % 4 * 1.1 if tokens > 1 else 1.0)


def accelerator(tokens: int) -> float:
    return 0.008 + 0.00001 * tokens


def computed(pace: Pace, cost: Cost, streams: int, steps: int) -> list[tuple[int, float]]:
    """Return, for each of ``steps``, the prompt tokens it took and how it was stretched."""
    plain, taken = cost(streams), []
    for _ in range(steps):
        chunk = pace.chunk(streams, 512)
        seconds = cost(streams + chunk)
        pace.observe(streams, chunk, seconds)
        taken.append((chunk, seconds / plain))
    return taken


@pytest.mark.parametrize("cost", [linear, blocks_of_four, accelerator])
@pytest.mark.parametrize("streams", [1, 3, 8])
def test_no_step_is_much_longer_than_without_a_prompt(cost: Cost, streams: int) -> None:
    taken = computed(Pace(), cost, streams, 2000)
    stretched = [stretch for chunk, stretch in taken if stretch > STRETCH and chunk > 1]
    assert len(stretched) <= len(taken) // 100, "only now and then, to see whether it has become faster"


def test_as_much_is_taken_as_fits() -> None:
    chunks = [chunk for chunk, _ in computed(Pace(), accelerator, 1, 40)]
    assert max(chunks) == 511, "a GPU takes a whole batch beside a stream"
    chunks = [chunk for chunk, _ in computed(Pace(), blocks_of_four, 1, 40)]
    assert sorted(set(chunks)) == [0, 3], "a block of four rows, not two or three"


def test_a_size_that_costs_as_much_as_one_token_is_taken() -> None:
    chunks = [chunk for chunk, _ in computed(Pace(), lambda tokens: 0.01 if tokens == 1 else 0.03, 1, 200)]
    assert {chunk for chunk in chunks[50:] if chunk} == {3}


def test_a_prompt_goes_on_however_dear_its_tokens_are() -> None:
    chunks = [chunk for chunk, _ in computed(Pace(), lambda tokens: 0.01 * 9 ** (tokens - 1), 1, 200)]
    assert chunks.count(1) > 180


def test_a_machine_that_is_slow_for_a_while_is_followed() -> None:
    pace = Pace()
    computed(pace, linear, 1, 60)
    computed(pace, lambda tokens: 5 * linear(tokens), 1, 4 * PLAIN_EVERY)
    slow = [chunk for chunk, _ in computed(pace, lambda tokens: 5 * linear(tokens), 1, 100)]
    assert max(slow) >= 3, "everything takes five times as long, so nothing is stretched"


def test_a_prompt_that_makes_plain_steps_slower_gains_no_room_by_it() -> None:
    pace, done, taken = Pace(), 0, []

    def grown(tokens: int) -> float:
        return linear(tokens) * (1 + done / 1000)

    for _ in range(60):
        pace.observe(1, 0, linear(1))
    for _ in range(2000):
        chunk = pace.chunk(1, 512)
        pace.observe(1, chunk, grown(1 + chunk))
        taken.append((chunk, grown(1 + chunk) / linear(1)))
        done = min(done + chunk, 1500)
    assert done == 1500
    late = [stretch for chunk, stretch in taken[-200:] if chunk > 1]
    assert len(late) <= 3, "of slower steps, only such as try out what has become of a size"


def test_short_steps_leave_room_for_a_tick() -> None:
    def short(tokens: int) -> float:
        return linear(tokens) * 0.8

    limit = 3 - TICK_S / short(1)
    taken = computed(Pace(), short, 1, 500)
    assert limit < STRETCH
    assert max(stretch for _, stretch in taken[100:]) <= limit


def test_single_disturbed_steps_change_nothing() -> None:
    pace, chance = Pace(), random.Random(1)

    def disturbed(tokens: int) -> float:
        return 2 * linear(tokens) * (10 if chance.random() < 0.05 else 1)

    chunks = [chunk for chunk, _ in computed(pace, disturbed, 1, 1000)]
    assert sum(chunks) / len(chunks) > 2.5


def test_other_company_is_learnt_anew() -> None:
    pace = Pace()
    computed(pace, linear, 1, 100)
    assert pace.chunk(4, 512) == 0, "first a step that shows what four streams take alone"


def test_a_step_that_comes_late_takes_no_prompt() -> None:
    pace = Pace()
    computed(pace, linear, 1, 30)
    assert pace.chunk(1, 512, late_s=0.006) == 0 < pace.chunk(1, 512, late_s=0.001)
    chunks = [pace.chunk(1, 512, late_s=0.006) for _ in range(10)]
    assert [bool(chunk) for chunk in chunks] == [False, True] * 5, "prompts go on where every step is late"


def test_each_prompt_that_comes_late_finds_its_stream_spared() -> None:
    pace = Pace()
    computed(pace, linear, 1, 30)
    for _ in range(3):
        assert pace.chunk(1, 512, late_s=0.006) == 0
        for _ in range(10):
            pace.observe(1, 0, linear(1))
