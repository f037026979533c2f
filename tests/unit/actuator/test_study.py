"""A model learns the commands in the background, once, and is then asked where the examples leave doubt."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from kylin_gguf.actuator.catalogue import Command
from kylin_gguf.actuator.interpret import Interpretation, Interpreter
from kylin_gguf.actuator.prompt import MAX_LISTED
from kylin_gguf.actuator.reader import load, parse
from kylin_gguf.actuator.shipped import SHIPPED_COMMANDS
from kylin_gguf.actuator.shortlists import IN_PACKAGE, Shortlists
from kylin_gguf.actuator.study import EACH, OF_NONE, Study
from kylin_gguf.actuator.wording import normalise
from kylin_gguf.errors import ModelNotInstalled, TextTooLong, UnsupportedModel, WorkerDied
from kylin_gguf.records import ExecutorAddress, Progress, no_progress
from tests.unit.actuator.catalogues import FIRST, WALLET
from tests.unit.actuator.models import Model

DOUBTFUL = "音乐播放器音量"
"""Nothing in it says which way."""
CATALOGUE = load(SHIPPED_COMMANDS)


def make(directory: Path) -> Interpreter:
    return Interpreter(CATALOGUE, Shortlists(IN_PACKAGE).of, Study(directory))


def descriptions(command: Command) -> list[str]:
    """Return what a command is described as, if it is what all its examples mean."""
    means_one = len({example.forms for example in command.examples}) == 1
    return [normalise(text) for text in command.description.values()] if means_one else []


async def ask(interpreter: Interpreter, model: Model) -> Interpretation:
    found = await interpreter.interpret(DOUBTFUL, model)
    await asyncio.sleep(0)
    return found


async def learnt(interpreter: Interpreter, model: Model) -> None:
    """Wait until what was begun in the background is done."""
    await interpreter.interpret(DOUBTFUL, model)
    task = interpreter._study._task  # type: ignore[union-attr]
    assert task
    await task


async def test_examples_decide_until_the_model_knows_the_commands(tmp_path: Path) -> None:
    interpreter, model = make(tmp_path), Model()
    assert (await ask(interpreter, model)).decided_by == "lexical"
    await learnt(interpreter, model)
    assert not model.asked
    assert (await ask(interpreter, model)).decided_by == "model"
    assert model.asked == [DOUBTFUL]


async def test_a_clear_request_does_not_ask_the_model(tmp_path: Path) -> None:
    interpreter, model = make(tmp_path), Model()
    await interpreter.learn(model, no_progress)
    assert (await interpreter.interpret("把音量调到百分之四十", model)).decided_by == "lexical"
    assert not model.asked


async def test_examples_are_shown_once_and_spread_over_all_meanings(tmp_path: Path) -> None:
    interpreter, model = make(tmp_path), Model()
    events: list[Progress] = []
    await interpreter.learn(model, events.append)
    written = {example.text: example.command for example in CATALOGUE.examples()}
    described = [text for command in CATALOGUE.commands for text in descriptions(command)]
    assert model.learnt[-len(described) :] == described
    shown = [written[text] for text in model.learnt[: -len(described)]]
    assert set(shown) == set(written.values())
    assert shown.count(None) == OF_NONE
    assert len(shown) < EACH * 200 + OF_NONE < len(written)
    assert events[-1].fraction == 1.0
    assert [event.done for event in events] == sorted(event.done for event in events)

    again, other = Model(), Model("another model")
    await make(tmp_path).learn(again, no_progress)
    assert not again.learnt, "it was kept on disk"
    await make(tmp_path).learn(other, no_progress)
    assert other.learnt == model.learnt


async def test_a_loaded_model_gets_ready_for_the_commands_it_knows(tmp_path: Path) -> None:
    interpreter, model = make(tmp_path), Model()
    await interpreter.recall(model)
    assert not model.learnt
    await interpreter.learn(model, no_progress)
    del model.learnt[:]
    await make(tmp_path).recall(model)
    assert model.learnt == [""], "asked last, as what nobody waits for"
    assert not model.asked


async def test_a_damaged_file_is_made_again(tmp_path: Path) -> None:
    await make(tmp_path).learn(Model(), no_progress)
    [path] = tmp_path.glob("*.npz")
    path.write_bytes(path.read_bytes()[:1000])
    model = Model()
    await make(tmp_path).learn(model, no_progress)
    assert model.learnt


async def test_only_what_a_new_catalogue_adds_is_learnt(tmp_path: Path) -> None:
    interpreter, model = make(tmp_path), Model()
    await interpreter.learn(model, no_progress)
    before = len(model.learnt)
    await interpreter.collection.register(ExecutorAddress(":1.1", "/"), "wallet", WALLET)
    await learnt(interpreter, model)
    assert "看看我的钱包" in model.learnt[before:]
    assert len(model.learnt) - before < 40
    assert (await ask(interpreter, model)).decided_by == "model"


async def test_the_model_is_told_what_there_is_to_choose_from(tmp_path: Path) -> None:
    interpreter, model = Interpreter(parse(FIRST, "lamps"), study=Study(tmp_path)), Model()
    await interpreter.learn(model, no_progress)
    await interpreter.collection.register(ExecutorAddress(":1.1", "/"), "wallet", WALLET)
    await interpreter.learn(model, no_progress)
    [before] = model.told
    assert "Colour of the lamp, Switch the lamp" in before[0].content, "the largest catalogue's"


async def test_what_is_chosen_from_is_learnt_with_it(tmp_path: Path) -> None:
    for described in ("Colour of the lamp", "How red the lamp is"):
        model = Model()
        changed = FIRST.replace("Colour of the lamp", described)
        await Interpreter(parse(changed, "lamps"), study=Study(tmp_path)).learn(model, no_progress)
        assert "turn on the lamp" in model.learnt


async def test_a_long_list_is_not_told(tmp_path: Path) -> None:
    interpreter, model = make(tmp_path), Model()
    await interpreter.learn(model, no_progress)
    [before] = model.told
    assert len(before[0].content) < MAX_LISTED < sum(len(c.description["en"]) for c in CATALOGUE.commands)


async def test_without_any_model_there_are_commands(tmp_path: Path) -> None:
    class Missing(Model):
        async def identity(self) -> str:
            raise ModelNotInstalled("default")

    assert (await make(tmp_path).interpret("把音量调到百分之四十", Missing())).command == "volume.set"
    assert (await make(tmp_path).interpret(DOUBTFUL, Missing())).decided_by == "lexical"


async def test_a_model_that_gives_no_states_is_left_alone(tmp_path: Path) -> None:
    interpreter = make(tmp_path)
    model = Model(failure=UnsupportedModel("x.gguf", "its graph has no such tensor"))
    await learnt(interpreter, model)
    model.failure = None
    await ask(interpreter, model)
    assert not model.learnt
    with pytest.raises(UnsupportedModel):
        await make(tmp_path).learn(Model(failure=UnsupportedModel("x.gguf", "no")), no_progress)


async def test_a_worker_that_dies_meanwhile_is_tried_again(tmp_path: Path) -> None:
    interpreter = make(tmp_path)
    model = Model(failure=WorkerDied("x", "it was killed"))
    await learnt(interpreter, model)
    model.failure = None
    await learnt(interpreter, model)
    assert (await ask(interpreter, model)).decided_by == "model"


async def test_an_utterance_too_long_for_the_model_is_for_the_examples(tmp_path: Path) -> None:
    interpreter, model = make(tmp_path), Model()
    await interpreter.learn(model, no_progress)
    model.failure = TextTooLong(DOUBTFUL, 500, 400)
    assert (await ask(interpreter, model)).decided_by == "lexical"


async def test_closing_stops_learning(tmp_path: Path) -> None:
    class Endless(Model):
        async def of(self, texts: object, before: object, *, background: bool) -> object:  # type: ignore[override]
            await asyncio.Event().wait()

    interpreter = make(tmp_path)
    await ask(interpreter, Endless())
    await asyncio.wait_for(interpreter.close(), 5)
    assert not list(tmp_path.iterdir())
