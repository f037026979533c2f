"""Guesses: where they come from, when they pay, and what a trial makes of it."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from kylin_gguf.engine.batch import Batch
from kylin_gguf.engine.context import Logits
from kylin_gguf.engine.prefix_cache import PrefixCache
from kylin_gguf.engine.speculation import choice, trial
from kylin_gguf.engine.speculation.choice import Choice
from kylin_gguf.engine.speculation.lookup import PromptLookup
from kylin_gguf.engine.speculation.payoff import LONGEST, Acceptance, Costs, best_length, gain
from kylin_gguf.engine.speculation.speculation import Speculation
from kylin_gguf.engine.speculation.speculator import Speculator
from kylin_gguf.engine.speculation.trial import Trial
from kylin_gguf.errors import DecodeFailed
from kylin_gguf.records import Speculation as State

from .fakes import FakeContext

CHEAP = Costs({1: 1.0, 8: 1.5})
DEAR = Costs({1: 1.0, 8: 8.0})


def test_a_text_that_repeats_itself_is_guessed_and_another_is_not() -> None:
    lookup = PromptLookup()
    text = [1, 2, 3, 4, 5, 6, 9]
    assert lookup.propose(text, 4) == []
    text += [2, 3, 4]
    assert lookup.propose(text, 4) == [5, 6, 9, 2]
    assert lookup.propose(text, 1) == [5]
    text += [5, 6, 9, 2, 3, 4]
    assert lookup.propose(text, 3) == [5, 6, 9], "the last time counts, and it can overlap itself"


def test_lookup_finds_what_a_search_of_the_whole_text_finds() -> None:
    chance = random.Random(1)
    lookup, text = PromptLookup(), [chance.randrange(3) for _ in range(5)]
    for _ in range(300):
        text.append(chance.randrange(3))
        before = [i for i in range(3, len(text)) if text[i - 3 : i] == text[-3:]]
        assert lookup.propose(text, 5) == (text[before[-1] : before[-1] + 5] if before else [])


def test_the_length_of_a_guess_follows_costs_and_luck() -> None:
    assert best_length(CHEAP, 0.95, 99) == LONGEST
    assert best_length(CHEAP, 0.95, 2) == 2
    assert best_length(DEAR, 0.99, 99) == 0
    assert best_length(CHEAP, 0.0, 99) == 0
    assert gain(CHEAP, 1.0, 7) == pytest.approx(8 / 1.5)
    steps = Costs({1: 1.0, 2: 2.0, 4: 2.1, 8: 4.0})
    assert best_length(steps, 0.7, 99) == 3, "as many as the cheap block of four holds"
    assert Costs.from_json(steps.to_json()).of(3) == steps.of(3) == pytest.approx(2.05)


def test_luck_is_learnt_and_forgotten() -> None:
    acceptance = Acceptance()
    first = acceptance.probability
    for _ in range(8):
        acceptance.learn(right=True)
    lucky = acceptance.probability
    for _ in range(8):
        acceptance.learn(right=False)
    assert lucky > 0.85 and max(first, acceptance.probability) < 0.5


def test_a_quotation_is_noticed_before_a_guess_is_paid_for() -> None:
    quoted = list(range(100, 140))
    text, speculator = [*quoted, 1, 2], Speculator(Costs({1: 1.0, 8: 4.0}))
    tried = []
    for token in quoted:
        tried.append(len(speculator.propose(text, 99)))
        text.append(token)
        speculator.drawn(token)
    assert tried[:3] == [0, 0, 0] and max(tried) >= 3
    assert speculator.guessed == sum(tried) and 0 < speculator.accepted <= speculator.guessed


def test_wrong_guesses_are_given_up() -> None:
    chance = random.Random(2)
    text, speculator = [chance.randrange(2) for _ in range(200)], Speculator(Costs({1: 1.0, 8: 6.0}))
    for _ in range(400):
        speculator.propose(text, 99)
        text.append(chance.randrange(2))
        speculator.drawn(text[-1])
    assert speculator.guessed < 100, "coin tosses are guessed at after lucky streaks only"


class Quoting(FakeContext):
    """A model that repeats its prompt, and takes no time for it."""

    def decode(self, batch: Batch, interrupted: Callable[[], bool] | None = None) -> bool:
        done = super().decode(batch, interrupted)
        self._inputs = list(batch.as_struct().token[: batch.size]) if done else []
        return done

    def logits(self, index: int) -> Logits:
        row = np.zeros(64, np.float32)
        row[(self._inputs[index] + 1) % 32] = 1.0
        return row


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Set what one decode takes; more tokens cost a tenth of the first each."""
    now = [0.0]

    def per_decode(factor: float) -> None:
        decode = Quoting.decode

        def timed(self: Quoting, batch: Batch, interrupted: Callable[[], bool] | None = None) -> bool:
            now[0] += 1.0 + factor * (batch.size - 1)
            return decode(self, batch, interrupted)

        monkeypatch.setattr(Quoting, "decode", timed)
        monkeypatch.setattr(trial.time, "perf_counter", lambda: now[0])

    return per_decode


def begun(context: Quoting, interrupted: Callable[[], bool] = lambda: False) -> Trial:
    prompts = [[*range(20), 0], [*range(5, 30), 5]]
    return Trial(context, PrefixCache(context), prompts, lambda token: token == 31, interrupted)  # type: ignore[arg-type]


def result(subject: Trial) -> Choice:
    for _ in range(1000):
        found = subject.step()
        if found:
            return found
    raise AssertionError("the trial has no end")


def test_cheap_checks_make_a_quoting_model_faster(seconds: Callable[[float], None]) -> None:
    seconds(0.1)
    context = Quoting(256, 64)
    found = result(begun(context))
    assert found.way == "lookup" and found.gain > 1.3
    assert found.costs.of(8) == pytest.approx(1.7)
    assert not context.cells, "the trial leaves nothing in the KV cache"


def test_dear_checks_are_not_used(seconds: Callable[[float], None]) -> None:
    seconds(1.0)
    found = result(begun(Quoting(256, 64)))
    assert found.way == "off" and found.gain == pytest.approx(1.0)


def test_a_trial_gives_way_and_comes_to_the_same_end(seconds: Callable[[float], None]) -> None:
    seconds(0.1)
    context = Quoting(256, 64)
    undisturbed = result(begun(Quoting(256, 64)))
    chance, subject = random.Random(3), begun(context, lambda: False)
    for _ in range(2000):
        if chance.random() < 0.05:
            subject.give_way()
            assert not context.cells
        found = subject.step()
        if found:
            break
    assert found and found.gain == pytest.approx(undisturbed.gain)


def test_a_choice_is_kept_and_a_damaged_one_measured_again(
    tmp_path: Path, seconds: Callable[[float], None]
) -> None:
    seconds(0.1)
    path, told = tmp_path / "speculation" / "model.json", list[State]()

    def subject() -> Speculation:
        return Speculation(path, lambda: begun(Quoting(256, 64)), told.append)

    first = subject()
    assert first.state == State("measuring") and first.speculator() is None
    while first.step():
        pass
    assert [state.way for state in told] == ["lookup"] and first.speculator()
    again = subject()
    assert not again.step() and again.state == told[0] and again.speculator()
    path.write_text('{"format": 1, "gain": "fast"}')
    assert choice.read(path) is None and subject().state == State("measuring")


def test_a_trial_that_fails_turns_speculation_off(tmp_path: Path) -> None:
    context, told = Quoting(256, 64), list[State]()
    context.fail = True
    subject = Speculation(tmp_path / "model.json", lambda: begun(context), told.append)
    assert not subject.step() and not subject.step()
    assert told == [State("off")] and subject.speculator() is None
    with pytest.raises(DecodeFailed):
        begun(context).step()
