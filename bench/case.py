"""What a case of measurement is made of: figures, bars, contenders, and the samples they give."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Literal

from kylin_gguf.records import InstalledModel

OURS = "ours"
"""The name of the contender that is this project, through D-Bus."""

Better = Literal["higher", "lower"]


class Unfair(Exception):
    """A sample that must not count, because its contender did other work than was asked; says which."""


@dataclass(frozen=True)
class Figure:
    """One quantity that every sample of a case has."""

    name: str
    unit: str
    better: Better
    meaning: str


@dataclass(frozen=True)
class Bar:
    """What the figure of contender ``of`` is held against.

    With ``against``, ``limit`` is a ratio: ``of`` over that contender. Without, it is in the figure's unit.
    The figure's ``better`` says on which side of the limit the bar is met.
    """

    figure: str
    limit: float
    against: str = ""
    of: str = OURS


@dataclass(frozen=True)
class Sample:
    """One measurement of one contender.

    ``figures`` are by name; one that this contender does not have is absent. ``facts`` show what was done
    (token counts). ``series`` are quantities over the course of the sample, all of one length.
    """

    figures: Mapping[str, float]
    facts: Mapping[str, Any] = field(default_factory=dict)
    series: Mapping[str, Sequence[float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Dropped:
    """A sample that does not count, and why."""

    reason: str


Round = Mapping[str, Sample | Dropped]
"""What the contenders gave when each was measured once, next to each other."""


@dataclass(frozen=True)
class Contender:
    """How to take a sample; its argument is the round, 0 for the warm-up.

    ``processes`` are stopped (SIGSTOP) while others are measured.
    """

    sample: Callable[[int], Awaitable[Sample]]
    processes: Callable[[], Iterable[int]] = tuple


@dataclass(frozen=True)
class Prepared:
    """Contenders that are ready, and the conditions they have in common."""

    contenders: Mapping[str, Contender]
    conditions: Mapping[str, Any]


@dataclass(frozen=True)
class Wanted:
    """What a run was asked for. ``threads`` 0 leaves the choice to the planner."""

    model: InstalledModel
    parameters: Mapping[str, int]
    threads: int = 0


@dataclass(frozen=True)
class Case:
    """One thing to measure. ``prepare`` starts the contenders and ends them for sure."""

    name: str
    measures: str
    figures: tuple[Figure, ...]
    bars: tuple[Bar, ...]
    prepare: Callable[[Wanted], AbstractAsyncContextManager[Prepared]]
    parameters: Mapping[str, int] = field(default_factory=dict)
    rounds: int = 7
    least_rounds: int = 5
    """With fewer samples that count, a result is called noisy."""
    warm_up: bool = True
    """False where each sample starts its own processes, or is so long that it is its own warm-up."""
