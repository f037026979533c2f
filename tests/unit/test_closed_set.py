"""Whatever a model makes of an utterance, the answer is a valid command of the catalogue, or none.

The whole path from hidden states to command runs here, with random numbers as the model.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kylin_gguf.actuator import interpret
from kylin_gguf.actuator.interpret import Interpreter
from kylin_gguf.actuator.reader import load
from kylin_gguf.actuator.shipped import SHIPPED_COMMANDS
from kylin_gguf.actuator.shortlists import IN_PACKAGE, Shortlists
from kylin_gguf.actuator.study import Study
from kylin_gguf.actuator.wording import normalise
from kylin_gguf.records import no_progress
from tests.unit.actuator.models import Model, RandomModel

CATALOGUE = load(SHIPPED_COMMANDS)
SPOKEN = [example.text for command in CATALOGUE.commands for example in command.examples]


@pytest.fixture(scope="module")
def interpreter(tmp_path_factory: pytest.TempPathFactory) -> Interpreter:
    """One that a model has learnt the commands for which does understand them a little."""
    made = Interpreter(CATALOGUE, Shortlists(IN_PACKAGE).of, Study(Path(tmp_path_factory.mktemp("readouts"))))
    asyncio.run(made.learn(Model(), no_progress))
    return made


class Random(RandomModel):
    """Passes for the model that has learnt, and says anything."""

    async def identity(self) -> str:
        return await Model().identity()


def check(interpreter: Interpreter, utterance: str, model: Random) -> None:
    with patch.object(interpret, "SURE_BELIEF", 2.0):  # no belief is that sure, so the model is always asked
        answer = asyncio.run(interpreter.interpret(utterance, model))
    if answer.command is None:
        assert answer.kylin is None and not answer.arguments
        return
    assert CATALOGUE.validate(answer.command, answer.arguments) == answer.arguments
    assert answer.kylin == CATALOGUE.get(answer.command).kylin(answer.arguments)
    for other in answer.alternatives:
        CATALOGUE.validate(other.command, other.arguments)


@given(st.text(min_size=1, max_size=60).filter(normalise), st.integers(0, 2**32 - 1), st.floats(0, 1e37))
@settings(deadline=None)
def test_any_text_and_any_states(interpreter: Interpreter, utterance: str, seed: int, scale: float) -> None:
    check(interpreter, utterance, Random(seed, scale))


@given(
    st.sampled_from(SPOKEN),
    st.sampled_from(["", " 40", "到百分之四十", " 999999", "好吗"]),
    st.integers(0, 2**32 - 1),
)
@settings(deadline=None)
def test_what_people_say_and_any_states(
    interpreter: Interpreter, example: str, ending: str, seed: int
) -> None:
    check(interpreter, example + ending, Random(seed, 20.0))


def test_the_model_is_really_asked(interpreter: Interpreter) -> None:
    model = Random(1, np.inf)
    check(interpreter, "把音量调到百分之四十", model)
    assert model.asked
