"""How far samples agree, and what they say about a bar."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench.case import Bar, Figure, Round, Sample

NOISY_SD = 0.10
"""Standard deviation over mean from which samples are called noisy, as in pyperf."""
NOISY_EXTREME = 0.50
"""Distance of an extreme from the mean, over the mean, from which it is called far off, as in pyperf."""


@dataclass(frozen=True)
class Spread:
    """Samples of one figure in few numbers. ``sd`` is 0 for a single sample."""

    count: int
    median: float
    mean: float
    sd: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Summarise at least one value."""
    return Spread(
        count=len(values),
        median=statistics.median(values),
        mean=statistics.fmean(values),
        sd=statistics.stdev(values) if len(values) > 1 else 0.0,
        low=min(values),
        high=max(values),
    )


def noise(values: Sequence[float], least: int) -> Iterator[str]:
    """Yield what makes ``values`` hard to trust; nothing when there are ``least`` and they agree."""
    found = spread(values)
    if found.count < least:
        yield f"only {found.count} of at least {least} samples"
    if not found.mean:
        return
    if found.sd >= NOISY_SD * abs(found.mean):
        yield f"standard deviation {found.sd / abs(found.mean):.0%} of the mean"
    for name, extreme in (("smallest", found.low), ("largest", found.high)):
        off = (extreme - found.mean) / abs(found.mean)
        if abs(off) >= NOISY_EXTREME:
            yield f"{name} sample {off:+.0%} off the mean"


def values_of(rounds: Sequence[Round], contender: str, figure: str) -> list[float]:
    """Return the samples that count."""
    taken = (given.get(contender) for given in rounds)
    return [
        sample.figures[figure] for sample in taken if isinstance(sample, Sample) and figure in sample.figures
    ]


def ratios(rounds: Sequence[Round], figure: str, of: str, against: str) -> list[float]:
    """Return ``of`` over ``against``, round by round: what slows a whole round is in both and cancels."""
    found = []
    for given in rounds:
        mine, theirs = values_of([given], of, figure), values_of([given], against, figure)
        if mine and theirs and theirs[0]:
            found.append(mine[0] / theirs[0])
    return found


@dataclass(frozen=True)
class Verdict:
    """What the samples say about a bar: ``found`` are ratios, or values in the figure's unit."""

    bar: Bar
    found: Spread | None
    met: bool | None
    """None: not measured."""


def judge(bar: Bar, figure: Figure, rounds: Sequence[Round]) -> Verdict:
    """Hold the median against the bar."""
    if bar.against:
        values = ratios(rounds, bar.figure, bar.of, bar.against)
    else:
        values = values_of(rounds, bar.of, bar.figure)
    if not values:
        return Verdict(bar, None, None)
    found = spread(values)
    met = found.median >= bar.limit if figure.better == "higher" else found.median <= bar.limit
    return Verdict(bar, found, met)
