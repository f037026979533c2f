"""How many threads an answer gets where energy is short: as many as take the fewest joules for a token.

A token waits for memory more than for arithmetic, so the last threads often add little but heat. How much
depends on the processor, on the model and on what else the machine feeds, a screen for instance, which fewer
threads keep on for longer. So it is measured, from the answers' own steps.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from kylin_gguf.energy import Meter
from kylin_gguf.records import SavingState

FLOOR = 0.7
"""How fast an answer stays at least, as part of the fastest count's speed."""

WORTH = 0.95
"""What part of all threads' energy a count may take at most to be preferred to them."""

ANSWER_TOKENS = 16
"""Up to how many tokens a step goes on with answers. A larger one is a prompt, whose first word somebody
waits for: it has all threads."""

PAUSE_S = 1.0
"""A pause between steps after which a meter has to settle again."""

RENEW_S = 600.0
"""How long what was found is believed: answers become longer, the machine warmer."""

_TRIED_STEPS = 5
_HOPELESS = 1.25
"""How many times slower than the floor a count is given up after a few steps."""


class Cost(NamedTuple):
    """What a step of one token takes, on average."""

    joules: float
    seconds: float


def counts(most: int) -> tuple[int, ...]:
    """Return the counts that are tried, from all threads down."""
    return tuple(sorted({max(round(most * part), 1) for part in (1.0, 0.75, 0.5, 0.25)} | {1}, reverse=True))


def cheapest(costs: Mapping[int, Cost], most: int) -> int:
    """Return the count that takes the fewest joules among those that keep to FLOOR; ``most`` where that saves
    less than is WORTH it. ``costs`` has at least one, by count."""
    fastest = min(cost.seconds for cost in costs.values())
    allowed = {count: cost.joules for count, cost in costs.items() if cost.seconds * FLOOR <= fastest}
    best = min(allowed, key=lambda count: (allowed[count], -count))
    if most in allowed and allowed[best] > WORTH * allowed[most]:
        return most
    return best


@dataclass
class _Trial:
    """One count that is being measured. How long steps take shows at once, what they take when the meter has
    settled."""

    count: int
    settled_at: float
    steps: int = 0
    seconds: float = 0.0
    measured_steps: int = 0
    measured_s: float = 0.0
    joules: float = 0.0

    def add(self, began: float, seconds: float, joules: float) -> None:
        """Note a step."""
        self.steps += 1
        self.seconds += seconds
        if began >= self.settled_at:
            self.measured_steps += 1
            self.measured_s += seconds
            self.joules += joules

    def hopeless(self, fastest: float) -> bool:
        """Return whether it is far too slow beside a count whose steps take ``fastest`` seconds."""
        return self.seconds / self.steps * FLOOR > _HOPELESS * fastest

    def cost(self) -> Cost:
        """Return what was found."""
        return Cost(self.joules / self.measured_steps, self.seconds / self.steps)


class Thrift:
    """Tries the counts in turn while answers are given, and keeps to the cheapest."""

    def __init__(self, most: int, meter: Meter, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with ``most`` threads. ``clock``: seconds, of any beginning."""
        self._most, self._meter, self._clock = most, meter, clock
        self._chosen = most
        self._costs: dict[int, Cost] = {}
        self._left: tuple[int, ...] = counts(most)
        self._trial: _Trial | None = None
        self._renew_at = float("inf")
        self._began = self._ended = float("-inf")
        self._before: float | None = None
        """What the meter told before the step, if it is measured."""
        self._take_next()

    @property
    def state(self) -> SavingState:
        """How far it is."""
        if self._trial:
            return "measuring"
        return "found" if self._costs else "unmeasured"

    def next(self, tokens: int) -> int:
        """Return how many threads a step of ``tokens`` gets that begins now."""
        self._before = None
        if tokens > ANSWER_TOKENS:
            return self._most
        now = self._clock()
        if now >= self._renew_at:
            self._costs, self._left = {}, counts(self._most)
            self._take_next()
        if self._trial is None or tokens != 1:  # steps of several tokens cost more, and differ
            return self._chosen
        if now - self._ended > PAUSE_S:
            self._trial.settled_at = now + self._meter.settle_s
        self._began, self._before = now, self._meter.joules()
        if self._before is None:
            self._give_up()
            return self._most
        return self._trial.count

    def observe(self, seconds: float) -> None:
        """Note how long the step took that ``next`` was asked for."""
        self._ended = self._clock()
        if self._trial is None or self._before is None:
            return
        joules = self._meter.joules()
        if joules is None:
            self._give_up()
            return
        self._trial.add(self._began, seconds, joules - self._before)
        if self._trial.measured_s >= self._meter.window_s:
            self._costs[self._trial.count] = self._trial.cost()
            self._take_next()
        elif self._trial.steps == _TRIED_STEPS and self._trial.hopeless(self._fastest()):
            self._left = ()  # fewer threads would be slower still
            self._take_next()

    def disturbed(self) -> None:
        """Other programs have begun to use the processor: what is being measured is theirs, too."""
        if self._trial:
            self._try(self._trial.count)

    def _fastest(self) -> float:
        return min((cost.seconds for cost in self._costs.values()), default=float("inf"))

    def _take_next(self) -> None:
        """Try the next count; when there is none, choose."""
        if self._left:
            self._try(self._left[0])
            self._left = self._left[1:]
            self._renew_at = float("inf")
            return
        self._trial = None
        self._chosen = cheapest(self._costs, self._most)
        self._renew_at = self._clock() + RENEW_S

    def _try(self, count: int) -> None:
        self._trial, self._before = _Trial(count, self._clock() + self._meter.settle_s), None

    def _give_up(self) -> None:
        """The meter tells nothing any more: all threads, as without one."""
        self._trial, self._chosen, self._costs = None, self._most, {}
        self._renew_at = float("inf")
