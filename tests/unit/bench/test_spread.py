"""Ratios, verdicts and doubt."""

from __future__ import annotations

import pytest

from bench.case import Bar, Dropped, Figure, Sample
from bench.spread import judge, noise, ratios, spread

HIGHER = Figure("speed", "tokens/s", "higher", "")
LOWER = Figure("speed", "tokens/s", "lower", "")
ROUNDS = (
    {"a": Sample({"speed": 10.0}), "b": Sample({"speed": 20.0})},
    {"a": Sample({"speed": 30.0}), "b": Sample({"speed": 30.0})},
    {"a": Sample({"speed": 90.0}), "b": Sample({"speed": 30.0})},
)


def test_a_ratio_is_of_neighbours_not_of_medians() -> None:
    """The medians, 30 and 30, would say 1 whatever happened in which round."""
    rounds = (*ROUNDS[:2], {"a": Sample({"speed": 33.0}), "b": Sample({"speed": 55.0})})
    assert ratios(rounds, "speed", "a", "b") == [0.5, 1.0, pytest.approx(0.6)]
    assert judge(Bar("speed", 1.0, "b", of="a"), HIGHER, rounds).found.median == pytest.approx(0.6)  # type: ignore[union-attr]


def test_a_round_with_a_dropped_sample_gives_no_ratio() -> None:
    rounds = (*ROUNDS[:2], {"a": Dropped("short"), "b": Sample({"speed": 30.0})})
    assert ratios(rounds, "speed", "a", "b") == [0.5, 1.0]


@pytest.mark.parametrize(
    ("figure", "limit", "met"),
    [(HIGHER, 1.0, True), (HIGHER, 1.01, False), (LOWER, 1.0, True), (LOWER, 0.99, False)],
)
def test_the_better_side_of_a_bar(figure: Figure, limit: float, met: bool) -> None:
    assert judge(Bar("speed", limit, "b", of="a"), figure, ROUNDS).met is met


def test_a_bar_without_a_peer_is_in_the_figures_unit() -> None:
    verdict = judge(Bar("speed", 30.0, of="a"), HIGHER, ROUNDS)
    assert verdict.met
    assert verdict.found == spread([10.0, 30.0, 90.0])


def test_what_was_not_measured_is_neither_met_nor_missed() -> None:
    assert judge(Bar("speed", 1.0, "b", of="c"), HIGHER, ROUNDS).met is None
    assert judge(Bar("other", 1.0, of="a"), HIGHER, ROUNDS).met is None


def test_the_spread_of_one_sample() -> None:
    assert (spread([4.0]).sd, spread([4.0]).median) == (0.0, 4.0)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([100.0, 101.0, 99.0, 100.0, 100.0], []),
        ([100.0, 101.0], ["only 2 of at least 5 samples"]),
        ([80.0, 120.0, 80.0, 120.0, 100.0], ["standard deviation 20% of the mean"]),
        ([100.0] * 99 + [151.0], ["largest sample +50% off the mean"]),
        ([100.0] * 99 + [40.0], ["smallest sample -60% off the mean"]),
        ([0.0] * 5, []),
    ],
)
def test_noise(values: list[float], words: list[str]) -> None:
    assert list(noise(values, 5)) == words
