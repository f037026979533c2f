"""Choosing threads by energy, on machines whose speed and power are tables."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kylin_gguf.engine.threads import Threads
from kylin_gguf.engine.thrift import ANSWER_TOKENS, FLOOR, RENEW_S, WORTH, Cost, cheapest, counts

# By threads: seconds of a step, and watts while it runs.
LAPTOP = {8: (0.040, 40.0), 6: (0.042, 30.0), 4: (0.050, 22.0), 2: (0.090, 15.0), 1: (0.170, 10.0)}
Table = dict[int, tuple[float, float]]


class Laptop:
    """Steps take what a table says, and so does the meter, which tells the rate of ``lag`` seconds ago."""

    name = "table"

    def __init__(self, table: Table, lag: float = 0.0, window: float = 1.0) -> None:
        self.table, self.settle_s, self.window_s = table, lag, window
        self.now = self.use = self.total = 0.0
        self.idle_w = 5.0
        self.readable = True
        self.read = 0
        self.counts: list[int] = []
        self._changes = [(float("-inf"), self.idle_w)]
        self.threads = Threads(max(table), max(table), self, lambda: self.now)

    def used(self) -> float:
        return self.use

    def running(self, own: int) -> int:
        return 0

    def joules(self) -> float | None:
        self.read += 1
        return self.total if self.readable else None

    def run(self, seconds: float, tokens: int = 1) -> None:
        """Give an answer for ``seconds``."""
        end = self.now + seconds
        while self.now < end:
            count = self.threads.next(tokens)
            self.counts.append(count)
            took, watts = self.table[count]
            self._pass(took, watts)
            self.threads.observe(tokens, took)

    def rest(self, seconds: float) -> None:
        self._pass(seconds, self.idle_w)

    def _pass(self, seconds: float, watts: float) -> None:
        self._changes.append((self.now, watts))
        told = next(w for since, w in reversed(self._changes) if since <= self.now - self.settle_s)
        self.total += told * seconds
        self.now += seconds


def best(table: Table) -> int:
    return cheapest({n: Cost(took * watts, took) for n, (took, watts) in table.items()}, max(table))


def test_the_cheapest_count_above_the_floor_is_found_and_kept() -> None:
    laptop = Laptop(LAPTOP)
    laptop.threads.save_energy(laptop)
    laptop.run(20)
    assert laptop.threads.saving == "found"
    assert laptop.counts[-1] == best(LAPTOP) == 4, "two take as little, and are too slow"
    before = laptop.read
    laptop.run(20)
    assert laptop.read == before, "it is not read when nothing is to be found out"


def test_a_count_that_is_far_too_slow_is_given_up_after_a_few_steps() -> None:
    laptop = Laptop(LAPTOP)
    laptop.threads.save_energy(laptop)
    laptop.run(20)
    assert laptop.counts.count(2) == 5
    assert 1 not in laptop.counts, "fewer are slower still"


def test_without_a_meter_nothing_changes() -> None:
    laptop = Laptop(LAPTOP)
    laptop.threads.save_energy(None)
    laptop.run(30)
    assert set(laptop.counts) == {8}
    assert laptop.threads.saving == "unmeasured"


def test_a_meter_that_falls_silent_gives_all_threads_back() -> None:
    laptop = Laptop(LAPTOP)
    laptop.threads.save_energy(laptop)
    laptop.run(20)
    laptop.rest(RENEW_S)
    laptop.readable = False
    laptop.run(20)
    assert laptop.counts[-1] == 8
    assert laptop.threads.saving == "unmeasured"


def test_back_on_mains_all_threads_compute_at_once() -> None:
    laptop = Laptop(LAPTOP)
    laptop.threads.save_energy(laptop)
    laptop.run(20)
    laptop.threads.save_time()
    laptop.counts.clear()
    laptop.run(1)
    assert set(laptop.counts) == {8} and laptop.threads.saving == "off"


def test_prompts_have_all_threads_and_guesses_have_what_was_found() -> None:
    laptop = Laptop(LAPTOP)
    laptop.threads.save_energy(laptop)
    laptop.run(20)
    laptop.counts.clear()
    laptop.run(0.01, ANSWER_TOKENS + 1)
    laptop.run(0.01, ANSWER_TOKENS)
    assert laptop.counts == [8, 4]


def test_what_a_slow_meter_tells_of_the_time_before_is_not_counted() -> None:
    """Answers of eight seconds, and a battery that tells the rate of five seconds ago."""
    laptop = Laptop(LAPTOP, lag=5.0, window=10.0)
    laptop.threads.save_energy(laptop)
    for _ in range(30):
        laptop.run(8)
        laptop.rest(60)
        if laptop.threads.saving == "found":
            break
    laptop.run(1)
    assert laptop.counts[-1] == 4


def test_what_was_found_is_measured_again_when_it_is_old() -> None:
    laptop = Laptop(LAPTOP)
    laptop.threads.save_energy(laptop)
    laptop.run(20)
    # A screen that is brighter by fifty watts: whoever is quick lets it be dark sooner.
    laptop.table = {count: (took, watts + 50.0) for count, (took, watts) in LAPTOP.items()}
    laptop.run(RENEW_S + 30)
    assert laptop.counts[-1] == best(laptop.table) == 6


def test_beside_busy_programs_time_decides() -> None:
    laptop = Laptop({2: (0.0400, 30.0), 1: (0.0192, 20.0)})
    laptop.threads.save_energy(laptop)
    laptop.use = 0.7
    laptop.run(5)
    laptop.read = 0
    laptop.run(5)
    assert laptop.counts[-1] == 1
    assert laptop.read == 0, "what it tells is others' energy, too"


@given(most=st.integers(1, 256))
def test_the_counts_begin_with_all_threads_and_end_with_one(most: int) -> None:
    tried = counts(most)
    assert tried[0] == most and tried[-1] == 1
    assert len(tried) <= 5 and list(tried) == sorted(set(tried), reverse=True)


costs = st.dictionaries(
    st.integers(1, 64),
    st.builds(Cost, joules=st.floats(1e-4, 1e3), seconds=st.floats(1e-5, 1e2)),
    min_size=1,
    max_size=8,
)


@given(costs=costs)
def test_what_is_chosen_keeps_to_the_floor_and_nothing_allowed_is_much_cheaper(
    costs: dict[int, Cost],
) -> None:
    most = max(costs)
    chosen = cheapest(costs, most)
    fastest = min(cost.seconds for cost in costs.values())
    allowed = {count: cost for count, cost in costs.items() if cost.seconds * FLOOR <= fastest}
    assert chosen in allowed
    least = min(cost.joules for cost in allowed.values())
    if chosen == most:
        assert least * (1 + 1e-9) >= WORTH * costs[most].joules or least == costs[most].joules
    else:
        assert costs[chosen].joules == least
        assert most not in allowed or least <= WORTH * costs[most].joules


@given(costs=costs, factor=st.floats(0.01, 100))
def test_the_unit_of_energy_does_not_matter(costs: dict[int, Cost], factor: float) -> None:
    scaled = {count: Cost(cost.joules * 2.0 ** round(factor), cost.seconds) for count, cost in costs.items()}
    assert cheapest(scaled, max(costs)) == cheapest(costs, max(costs))


@given(
    table=st.fixed_dictionaries(
        {count: st.tuples(st.floats(0.005, 0.2), st.floats(1.0, 90.0)) for count in (8, 6, 4, 2, 1)}
    )
)
def test_on_any_machine_an_answer_stays_above_the_floor(table: Table) -> None:
    """Where fewer threads are slower, what is found is the cheapest of all that may be chosen."""
    slower_and_slower = {}
    slowest = 0.0
    for count in (8, 6, 4, 2, 1):
        slowest = max(slowest, table[count][0])
        slower_and_slower[count] = (slowest, table[count][1])
    laptop = Laptop(slower_and_slower)
    laptop.threads.save_energy(laptop)
    laptop.run(30)
    found, wanted = laptop.counts[-1], best(slower_and_slower)
    energy = {count: took * watts for count, (took, watts) in slower_and_slower.items()}
    assert slower_and_slower[found][0] * FLOOR <= slower_and_slower[8][0] * (1 + 1e-6)
    assert energy[found] == pytest.approx(energy[wanted], rel=0.06)


def test_a_single_thread_is_never_measured() -> None:
    laptop = Laptop({1: (0.1, 10.0)})
    laptop.threads.save_energy(laptop)
    laptop.run(3)
    assert laptop.read == 0 and laptop.threads.saving == "unmeasured"
