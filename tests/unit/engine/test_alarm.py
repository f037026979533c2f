"""When others are thought to take the cores, by who wants one behind steps."""

from __future__ import annotations

import pytest

from kylin_gguf.engine.alarm import SLOWED, Alarm

USUAL_S, SLOW_S = 0.020, 0.060


class Company:
    """Wants what is set."""

    wanting = 0

    def used(self) -> float:
        raise AssertionError("nobody asks")

    def running(self, own: int) -> int:
        assert own == 2
        return self.wanting


@pytest.fixture
def company() -> Company:
    return Company()


@pytest.fixture
def alarm(company: Company) -> Alarm:
    """One that knows what a step of one token takes."""
    alarm = Alarm(company)
    assert [alarm.heard(2, 1, USUAL_S) for _ in range(20)] == [0] * 20
    return alarm


@pytest.mark.parametrize(
    ("wanting", "slower", "steps"), [(1, 1.6, 3), (1, 2.0, 2), (2, 1.6, 2), (1, 50.0, 2)]
)
def test_the_more_want_a_core_and_the_slower_steps_are_the_sooner_it_is_heard(
    alarm: Alarm, company: Company, wanting: int, slower: float, steps: int
) -> None:
    company.wanting = wanting
    heard = [alarm.heard(2, 1, slower * USUAL_S) for _ in range(steps)]
    assert heard == [0] * (steps - 1) + [wanting]


def test_of_a_step_of_another_size_nobody_knows_whether_it_is_slow(alarm: Alarm, company: Company) -> None:
    company.wanting = 2
    assert not any(alarm.heard(2, 64, SLOW_S) for _ in range(100))


def test_who_takes_nothing_is_not_heeded(alarm: Alarm, company: Company) -> None:
    """As programs with a nice value of 19 do: they always want a core."""
    company.wanting = 4
    assert not any(alarm.heard(2, 1, USUAL_S) for _ in range(100))


def test_who_goes_between_two_steps_begins_anew(alarm: Alarm, company: Company) -> None:
    for wanting in (2, 0, 1, 1, 0, 2):
        company.wanting = wanting
        assert not alarm.heard(2, 1, 1.6 * USUAL_S)


def test_short_steps_have_to_be_more(company: Company) -> None:
    """A compositor and a terminal that draw an answer are there for some milliseconds."""
    alarm = Alarm(company)
    alarm.heard(2, 1, 0.004)
    company.wanting = 3
    assert [alarm.heard(2, 1, 0.009) for _ in range(6)] == [0] * 5 + [3]


def test_steps_that_grow_with_the_context_are_not_slow(company: Company) -> None:
    alarm, seconds = Alarm(company), USUAL_S
    for number in range(400):
        company.wanting = number % 2
        assert not alarm.heard(2, 1, seconds)
        seconds *= 1.004
    assert seconds > SLOWED * USUAL_S
