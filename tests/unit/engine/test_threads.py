"""Choosing threads beside other programs, on machines whose speed is a table."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kylin_gguf.engine.threads import (
    FIRST_GLANCE_S,
    FIRST_WAIT,
    FORGET_S,
    PROBE_STEPS,
    Threads,
)

# Seconds of one step by threads, alone and beside one and two busy programs on two cores.
TWO_CORES = ({1: 0.0197, 2: 0.0160}, {1: 0.0192, 2: 0.0400}, {1: 0.0263, 2: 0.0385})


class Machine:
    """A machine on which a step takes what a table says and others use what is set."""

    def __init__(self, most: int, cores: int | None = None) -> None:
        self.now = self.use = 0.0
        self.wanting, self.given = 0, 0
        self.counts: list[int] = []
        self.threads = Threads(most, cores or most, self, lambda: self.now)

    def used(self) -> float:
        return self.use

    def running(self, own: int) -> int:
        assert own == self.given
        return self.wanting

    def run(self, table: dict[int, float], seconds: float, size: int = 1) -> float:
        """Take steps for ``seconds``; return how many there were in one second."""
        end, steps = self.now + seconds, 0
        while self.now < end:
            count = self.threads.next(size)
            self.counts.append(count)
            self.given = count
            self.now += table[count]
            self.threads.observe(size, table[count])
            steps += 1
        return steps / seconds


def test_alone_every_core_gets_a_thread() -> None:
    machine = Machine(2)
    machine.use = 0.1  # a client that reads, a clock that ticks
    machine.run(TWO_CORES[0], 5)
    assert set(machine.counts) == {2}


@pytest.mark.parametrize(("programs", "use"), [(1, 0.7), (2, 1.0)])
def test_beside_busy_programs_it_is_nearly_as_fast_as_the_best_count(programs: int, use: float) -> None:
    machine, table = Machine(2), TWO_CORES[programs]
    machine.use = use
    machine.run(table, 1)  # it takes two glances to believe it
    assert machine.run(table, 30) > 0.95 / min(table.values())


def test_who_wants_a_core_behind_slower_steps_gets_it_at_once() -> None:
    machine = Machine(2)
    machine.run(TWO_CORES[0], 5)
    machine.counts.clear()
    machine.use, machine.wanting = 1.0, 2
    assert machine.run(TWO_CORES[2], 3) > 0.95 / min(TWO_CORES[2].values())
    assert machine.counts[:3] == [2, 2, 1]
    machine.use, machine.wanting = 0.0, 0
    machine.run(TWO_CORES[0], 1)
    assert machine.counts[-1] == 2


def test_on_many_cores_others_are_left_as_many_as_always_wanted_one() -> None:
    machine = Machine(8)
    machine.run(dict.fromkeys(range(1, 9), 0.01), 5)
    machine.counts.clear()
    table = dict.fromkeys(range(1, 9), 0.03)
    for wanting in (3, 5):
        machine.wanting = wanting
        machine.run(table, 0.03)
    machine.run(table, 0.03)
    assert machine.counts == [8, 8, 5]


def test_when_the_others_end_every_core_has_a_thread_again_within_a_second() -> None:
    machine = Machine(2)
    machine.use = 0.7
    machine.run(TWO_CORES[1], 5)
    assert machine.counts[-1] == 1
    machine.use = 0.0
    machine.run(TWO_CORES[0], 1)
    assert machine.counts[-1] == 2


def test_what_others_did_while_we_paused_is_not_believed() -> None:
    """A program computes, ends, and its result is what the next question is about."""
    machine = Machine(2)
    for _ in range(20):
        machine.use = 2.0
        machine.now += 1.0
        machine.run(TWO_CORES[0], 0.1)
        machine.use = 0.0
    assert set(machine.counts) == {2}


def test_steps_longer_than_a_glance_are_looked_at_too() -> None:
    machine = Machine(2)
    machine.use = 0.7
    machine.run({1: 1.0, 2: 1.5}, 10)
    assert machine.counts[-1] == 1


def test_after_a_long_pause_every_core_has_a_thread() -> None:
    machine = Machine(2)
    machine.use = 0.7
    machine.run(TWO_CORES[1], 5)
    assert machine.counts[-1] == 1
    machine.now += 1.0
    machine.run(TWO_CORES[1], 0.1)
    assert machine.counts[-1] == 1, "a short pause says nothing"
    machine.now += 60.0
    assert machine.threads.next(1) == 2


def test_programs_that_computed_all_through_a_pause_are_believed_at_the_first_look() -> None:
    machine = Machine(2)
    machine.use = 1.0
    machine.now += FORGET_S + 1
    machine.run(TWO_CORES[2], FIRST_GLANCE_S + 0.1)
    assert machine.counts[0] == 2
    assert machine.counts[-1] == 1


def test_a_machine_where_threads_pay_all_the_same_gets_them() -> None:
    """As many busy programs as cores: leaving them all cores would leave nothing."""
    machine = Machine(8)
    machine.use = 7.0
    table = {count: 0.1 / min(count, 4) for count in range(1, 9)}
    machine.run(table, 120)
    assert machine.counts[PROBE_STEPS] == 8, "not seen yet"
    assert max(machine.counts[-FIRST_WAIT:]) >= 4
    assert min(machine.counts) == 1, "what was left of the cores"


def test_more_processors_than_threads_leave_room_for_others() -> None:
    machine = Machine(4, cores=8)
    machine.use = 2.0
    machine.run(dict.fromkeys(range(1, 5), 0.01), 1)
    assert machine.counts[-1] == 4


def test_steps_of_different_sizes_are_not_compared() -> None:
    machine = Machine(2)
    machine.use = 0.7
    machine.run(TWO_CORES[1], 1)
    before = len(machine.counts)
    for _ in range(200):  # by turns: never five of one size in a row
        machine.run(TWO_CORES[1], TWO_CORES[1][1], size=1)
        machine.run(TWO_CORES[1], TWO_CORES[1][1], size=9)
    assert set(machine.counts[before:]) == {1}


def test_probes_become_rare_where_nothing_changes() -> None:
    machine = Machine(2)
    machine.use = 0.7
    machine.run(TWO_CORES[1], 60)
    tried = [machine.counts[at : at + 500].count(2) for at in (50, len(machine.counts) - 500)]
    assert tried[0] > tried[1]


@given(
    most=st.integers(1, 16),
    events=st.lists(
        st.tuples(st.floats(0, 20), st.integers(0, 20), st.floats(0.0001, 2.0), st.integers(1, 512)),
        min_size=1,
        max_size=300,
    ),
)
def test_a_count_is_never_out_of_range(most: int, events: list[tuple[float, int, float, int]]) -> None:
    machine = Machine(most)
    for use, wanting, seconds, size in events:
        machine.use, machine.wanting = use, wanting
        machine.given = machine.threads.next(size)
        assert 1 <= machine.given <= most
        machine.now += seconds
        machine.threads.observe(size, seconds)


def test_a_single_thread_never_looks() -> None:
    class Unasked:
        def used(self) -> float:
            raise AssertionError("there is nothing to choose")

        def running(self, own: int) -> int:
            raise AssertionError(f"{own} is all there is")

    now = iter(range(0, 1000, 10))
    threads = Threads(1, 1, Unasked(), lambda: float(next(now)))
    for _ in range(5):
        assert threads.next(1) == 1
        threads.observe(1, 0.1)
