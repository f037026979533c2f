"""Continuous batching, on a context that keeps tokens instead of computing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from kylin_gguf.engine import scheduler as module
from kylin_gguf.engine.prefix_cache import PrefixCache
from kylin_gguf.engine.scheduler import QUIET_S, Scheduler
from kylin_gguf.engine.tasks.task import Priority
from kylin_gguf.engine.waiting import MAX_WAITING, RESERVE
from kylin_gguf.errors import Busy, ContextFull, DecodeFailed

from .fakes import Echo, FakeContext

STOP = ("stop", None)


def scheduler(context: FakeContext, sequences: int, listen: Callable[[], bool] = lambda: True) -> Scheduler:
    return Scheduler(context, PrefixCache(context), sequences, listen)  # type: ignore[arg-type]


def run(subject: Scheduler, steps: int = 400) -> None:
    for _ in range(steps):
        if not subject.has_work:
            return
        subject.step()
    raise AssertionError("the scheduler did not come to rest")


def submit(subject: Scheduler, *tasks: Echo) -> None:
    for task in tasks:
        subject.submit(task)  # type: ignore[arg-type]


def test_requests_run_together_and_end_once() -> None:
    context = FakeContext(length=512)
    tasks = [Echo(i, [i] * 5) for i in range(1, 4)]
    subject = scheduler(context, 4)
    submit(subject, *tasks)
    run(subject)
    assert [task.ended for task in tasks] == [[STOP]] * 3
    assert max(context.steps) == 15, "three prompts of five tokens fit one batch"
    assert context.steps.count(3) == 2, "then all three decode together"


def test_a_long_prompt_is_computed_in_chunks_beside_a_stream() -> None:
    context = FakeContext(length=4096, batch_size=512)
    subject = scheduler(context, 2)
    stream, long = Echo(1, [1, 2], length=200), Echo(2, list(range(600)), length=2)
    submit(subject, stream)
    subject.step()
    submit(subject, long)
    run(subject)
    assert stream.ended == long.ended == [STOP]
    assert max(context.steps) < 600, "no step stalls the stream for a whole prompt"
    assert len(stream.drawn) == 200


def test_background_prompts_are_not_paced() -> None:
    context = FakeContext(length=4096, batch_size=512)
    subject = scheduler(context, 3)
    stream = Echo(1, [1, 2], length=9, priority=Priority.BACKGROUND)
    submit(subject, stream)
    subject.step()
    submit(subject, Echo(2, list(range(500)), length=1))
    subject.step()
    assert context.steps[-1] == 501


def test_an_interactive_prompt_goes_before_a_background_one() -> None:
    context = FakeContext(length=4096, batch_size=64)
    subject = scheduler(context, 3)
    patient = Echo(1, list(range(200)), length=1, priority=Priority.BACKGROUND)
    urgent = Echo(2, list(range(500, 600)), length=1)
    submit(subject, patient, urgent)
    subject.step()
    subject.step()
    assert urgent.ended == [STOP] and not patient.ended
    run(subject)
    assert patient.ended == [STOP]


def test_background_work_leaves_a_slot_free() -> None:
    subject = scheduler(FakeContext(length=4096), 2)
    tasks = [Echo(i, [i], length=50, priority=Priority.BACKGROUND) for i in (1, 2)]
    submit(subject, *tasks)
    subject.step()
    assert [len(task.drawn) for task in tasks] == [1, 0] and tasks[1].places == [1]


def test_a_short_prompt_does_not_wait_for_a_long_one() -> None:
    context = FakeContext(length=4096, batch_size=64)
    subject = scheduler(context, 2)
    long, short = Echo(1, list(range(1000)), length=1), Echo(2, list(range(2000, 2020)), length=1)
    submit(subject, long, short)
    subject.step()
    assert short.ended == [STOP] and context.steps == [64], "the rest of the step is the long one's"


def test_what_another_request_is_computing_is_waited_for() -> None:
    context = FakeContext(length=512, batch_size=64)
    subject = scheduler(context, 4)
    common = list(range(100))
    first, second, other = Echo(1, [*common, 1]), Echo(2, [*common, 2]), Echo(3, [7] * 5)
    submit(subject, first, second, other)
    run(subject)
    assert second.cached == [100] and first.cached == other.cached == [0]
    assert sum(context.steps) == 101 + 1 + 5 + 3 * 2, "the common beginning is computed once"


def test_same_beginning_is_not_computed_twice() -> None:
    subject = scheduler(FakeContext(length=512), 2)
    first = Echo(1, [7, 8, 9, 10])
    submit(subject, first)
    run(subject)
    again, branch = Echo(2, [7, 8, 9, 10, 1000, 1001, 5]), Echo(3, [7, 8, 6])
    submit(subject, again, branch)
    run(subject)
    assert (again.cached, branch.cached) == ([6], [2])
    assert again.ended == branch.ended == [STOP]


def test_idle_prefixes_make_room_for_a_new_request() -> None:
    subject = scheduler(FakeContext(length=20), 2)
    tasks = [Echo(i, [i * 100 + k for k in range(12)]) for i in (1, 2, 3)]
    for task in tasks:
        submit(subject, task)
        run(subject)
    assert [task.ended for task in tasks] == [[STOP]] * 3


def test_who_runs_out_of_cells_is_displaced_and_goes_on_later() -> None:
    context = FakeContext(length=200)
    subject = scheduler(context, 2)
    first, second = Echo(1, [1] * 4, length=150), Echo(2, [2] * 8, length=150)
    submit(subject, first, second)
    run(subject, steps=1000)
    assert first.ended == second.ended == [STOP]
    assert len(first.drawn) == len(second.drawn) == 150
    assert len(second.cached) == 2 and len(first.cached) == 1, "the later one gave way"


def test_the_only_request_ends_when_the_context_is_full() -> None:
    subject = scheduler(FakeContext(length=20), 2)
    task = Echo(1, [1] * 4, length=100)
    submit(subject, task)
    run(subject)
    assert task.ended == [("length", None)] and len(task.drawn) == 17


def test_requests_that_do_not_fit_together_wait_and_are_told() -> None:
    length = 100 + 10 + 100 + RESERVE
    subject = scheduler(FakeContext(length=length, batch_size=length), 4)
    tasks = [Echo(i, [i] * 100, length=RESERVE) for i in range(1, 5)]
    tasks[0].length = 10  # ends first
    submit(subject, *tasks)
    subject.step()
    assert [task.places for task in tasks] == [[], [], [1], [2]]
    run(subject)
    assert [task.ended for task in tasks] == [[STOP]] * 4
    assert tasks[3].places[-1] == 1


def test_cancel_takes_effect_before_the_next_step_running_or_waiting() -> None:
    subject = scheduler(FakeContext(length=512), 1)
    running, waiting = Echo(1, [1], length=50), Echo(2, [2], length=50)
    submit(subject, running, waiting)
    subject.step()
    drawn = len(running.drawn)
    for unknown_or_not in (1, 2, 3):
        subject.cancel(unknown_or_not)
    run(subject)
    assert running.ended == waiting.ended == [("cancelled", None)]
    assert len(running.drawn) == drawn and not waiting.drawn


def test_cancel_in_the_middle_of_a_decode_stops_it() -> None:
    context = FakeContext(length=512, batch_size=128)
    subject = scheduler(context, 2)
    long, other = Echo(1, list(range(200))), Echo(2, [7] * 20)
    submit(subject, long, other)
    context.during = lambda: subject.cancel(1)
    subject.step()
    assert context.steps == [] and not long.ended
    run(subject)
    assert long.ended == [("cancelled", None)] and other.ended == [STOP]


def test_a_request_that_matters_interrupts_background_work() -> None:
    context = FakeContext(length=512, batch_size=128)
    subject = scheduler(context, 2)
    patient, urgent = Echo(1, list(range(200)), priority=Priority.BACKGROUND), Echo(2, [7] * 20)
    submit(subject, patient)
    context.during = lambda: submit(subject, urgent)
    subject.step()
    assert context.steps == []
    subject.step()
    assert len(urgent.drawn) == 1
    run(subject)
    assert patient.ended == urgent.ended == [STOP]


def test_the_cache_is_tidied_once_nobody_has_wanted_anything_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    context = FakeContext(length=512)
    subject = scheduler(context, 1)
    for number in (1, 2):
        submit(subject, Echo(number, [number] * 100))
        run(subject)
    before = len(context.cells)
    wait = subject.rest()
    assert wait and 0 < wait <= QUIET_S and len(context.cells) == before, "its client may go on at once"
    monkeypatch.setattr(module, "QUIET_S", 0.0)
    assert subject.rest() is None
    assert len(context.cells) < before
    assert subject.rest() is None


def test_a_closed_channel_interrupts_whatever_runs() -> None:
    context = FakeContext(length=512, batch_size=128)
    subject = scheduler(context, 1, listen=lambda: False)
    submit(subject, Echo(1, list(range(200))))
    context.during = lambda: None
    subject.step()
    assert context.steps == []


def test_a_paused_stream_holds_up_nobody_and_burns_no_steps() -> None:
    subject = scheduler(FakeContext(length=512), 2)
    slow, quick = Echo(1, [1], paused=True), Echo(2, [2])
    submit(subject, slow, quick)
    run(subject)
    assert quick.ended == [STOP] and not slow.ended
    assert not subject.has_work
    slow.paused = False
    run(subject)
    assert slow.ended == [STOP]


def test_a_paused_stream_gives_its_slot_to_who_needs_it() -> None:
    subject = scheduler(FakeContext(length=512), 1)
    slow, quick = Echo(1, [1, 2, 3], length=9), Echo(2, [4])
    submit(subject, slow)
    subject.step()
    slow.paused = True
    submit(subject, quick)
    run(subject)
    assert quick.ended == [STOP] and not slow.ended
    slow.paused = False
    run(subject)
    assert slow.ended == [STOP] and slow.cached == [0, 3]


def test_a_failed_decode_ends_its_requests_and_the_next_one_works() -> None:
    context = FakeContext(length=512)
    subject = scheduler(context, 2)
    task = Echo(1, [1, 2, 3])
    submit(subject, task)
    context.fail = True
    run(subject)
    ((reason, error),) = task.ended
    assert reason == "error" and isinstance(error, DecodeFailed)
    context.fail = False
    after = Echo(2, [1, 2, 3])
    submit(subject, after)
    run(subject)
    assert after.cached == [0] and after.ended == [STOP]


def test_right_guesses_save_decodes_and_wrong_ones_cost_none() -> None:
    context = FakeContext(length=512)
    subject = scheduler(context, 2)
    task = Echo(1, [1, 2, 3], length=30, guesses=4)
    submit(subject, task)
    run(subject)
    assert task.ended == [STOP] and task.drawn == list(range(1000, 1030))
    assert len(context.steps) <= 1 + 30 / 3 + 1, "two of three guesses are right, so most decodes give three"
    again = Echo(2, [1, 2, 3, *task.drawn], length=1)
    submit(subject, again)
    run(subject)
    assert again.cached == [32], "wrong guesses leave nothing behind"


def test_nobody_guesses_in_company_or_when_cells_are_short() -> None:
    context = FakeContext(length=512)
    subject = scheduler(context, 2)
    tasks = [Echo(i, [i], length=9, guesses=4) for i in (1, 2)]
    submit(subject, *tasks)
    run(subject)
    assert max(context.steps) == 2
    tasks = [Echo(i, [1, 2, 3], length=40, guesses=guesses) for i, guesses in ((1, 0), (2, 5))]
    for task in tasks:
        subject = scheduler(FakeContext(length=12), 1)
        submit(subject, task)
        run(subject)
        assert task.ended == [("length", None)]
    assert tasks[0].drawn == tasks[1].drawn, "the whole context is used, not up to the first guess"


def test_what_can_never_run_is_refused_with_the_numbers() -> None:
    subject = scheduler(FakeContext(length=8), 1)
    with pytest.raises(ContextFull) as caught:
        submit(subject, Echo(1, [0] * 9))
    assert (caught.value.tokens, caught.value.limit) == (9, 8)
    submit(subject, *(Echo(i, [i]) for i in range(MAX_WAITING)))
    with pytest.raises(Busy):
        submit(subject, Echo(MAX_WAITING, [1]))


actions = st.lists(
    st.one_of(
        st.tuples(
            st.just("submit"),
            st.lists(st.integers(0, 2), min_size=1, max_size=24),  # few values: many common beginnings
            st.integers(1, 40),
            st.sampled_from(list(Priority)),
            st.integers(0, 5),
        ),
        st.tuples(st.just("cancel"), st.integers(0, 12)),
        st.tuples(st.just("pause"), st.integers(0, 12)),
        st.tuples(st.just("resume"), st.integers(0, 12)),
        st.tuples(st.just("step"), st.integers(1, 6)),
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(actions, st.booleans(), st.sampled_from([40, 80, 400]), st.integers(1, 4))
def test_any_interleaving_gives_each_request_what_it_gets_alone(
    moves: list[tuple[Any, ...]], cuttable: bool, length: int, sequences: int
) -> None:
    """``Echo`` checks at each token that the cache holds exactly its own tokens."""
    context = FakeContext(length=length, cuttable=cuttable)
    subject = scheduler(context, sequences)
    tasks: list[Echo] = []
    for move in moves:
        if move[0] == "submit":
            tasks.append(Echo(len(tasks), move[1], length=move[2], priority=move[3], guesses=move[4]))
            submit(subject, tasks[-1])
        elif move[0] == "step":
            for _ in range(move[1]):
                subject.step()
        elif move[1] < len(tasks):
            if move[0] == "cancel":
                subject.cancel(move[1])
            else:
                tasks[move[1]].paused = move[0] == "pause"
    for task in tasks:
        task.paused = False
    run(subject, steps=5000)
    assert all(len(task.ended) == 1 for task in tasks)
    for task in tasks:
        assert task.drawn == list(range(1000, 1000 + len(task.drawn)))
        assert task.ended[0][0] in ("stop", "cancelled", "length")
        if task.ended[0][0] == "stop":
            assert len(task.drawn) == task.length
        if task.ended[0][0] == "length":
            assert len(task.tokens) >= length


def test_what_is_done_is_counted() -> None:
    context = FakeContext(length=64)
    subject = scheduler(context, 1)
    submit(subject, Echo(1, [1, 2, 3, 4]), Echo(2, [1, 2, 3, 9]))
    subject.step()
    now = subject.activity()
    assert (now.running, now.waiting, now.cells, now.cells_used) == (1, 1, 64, 4)
    assert (now.requests, now.cache_hits, now.prompt_tokens, now.generated_tokens) == (1, 0, 4, 1)
    assert (now.threads, now.saving) == (3, "measuring")
    run(subject)
    done = subject.activity()
    assert (done.running, done.waiting) == (0, 0)
    assert (done.requests, done.cache_hits, done.cached_tokens, done.prompt_tokens) == (2, 1, 3, 5)
    assert done.generated_tokens == 6
    assert done.cells_used == len(context.cells), "what both begin with is held once"
    assert done.time > now.time and done.prompt_s > 0 and done.generated_s > 0
