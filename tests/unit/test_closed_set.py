"""Whatever a model's logits are, the answer is a command of the catalogue with valid arguments, or none.

The whole path from logits to command runs here, with bytes as tokens and random numbers as the model.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from unittest.mock import patch

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kylin_gguf import config, native
from kylin_gguf.actuator import interpret
from kylin_gguf.actuator.interpret import Interpreter
from kylin_gguf.actuator.reader import load
from kylin_gguf.actuator.shipped import SHIPPED_COMMANDS
from kylin_gguf.actuator.shortlists import IN_PACKAGE, Shortlists
from kylin_gguf.actuator.wording import normalise
from kylin_gguf.records import ScoreRequest, Scores

native.load(config.load())  # the engine's modules import the bindings

from kylin_gguf.engine.trie import Node, Trie  # noqa: E402

BYTES, END = 256, 256
INTERPRETER = Interpreter(load(SHIPPED_COMMANDS), Shortlists(IN_PACKAGE).of)
SPOKEN = [
    example.text for command in INTERPRETER.collection.catalogue.commands for example in command.examples
]


class RandomModel:
    """Scores as the engine does, on logits drawn from ``seed``; remembers what it was asked."""

    def __init__(self, seed: int, scale: float) -> None:
        generator = np.random.default_rng(seed)
        self._rows = defaultdict(lambda: (generator.standard_normal(BYTES + 1) * scale).astype(np.float32))
        self.asked = False

    def _logits(self, node: Node) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
        return self._rows[id(node)]

    async def score(self, request: ScoreRequest) -> Scores:
        self.asked = True
        trie = Trie([[*text.encode(), END] for text in request.continuations])
        return Scores(trie.score(self._logits), 0.0, 0.0)


def check(utterance: str, model: RandomModel) -> None:
    with patch.object(interpret, "SURE_BELIEF", 2.0):  # no belief is that sure, so the model is always asked
        answer = asyncio.run(INTERPRETER.interpret(utterance, model.score))
    if answer.command is None:
        assert answer.kylin is None and not answer.arguments
        return
    assert INTERPRETER.collection.catalogue.validate(answer.command, answer.arguments) == answer.arguments
    command = INTERPRETER.collection.catalogue.get(answer.command)
    assert answer.kylin == command.kylin(answer.arguments)
    for other in answer.alternatives:
        INTERPRETER.collection.catalogue.validate(other.command, other.arguments)


@given(st.text(min_size=1, max_size=60).filter(normalise), st.integers(0, 2**32 - 1), st.floats(0, 1e4))
@settings(deadline=None)
def test_any_text_and_any_logits(utterance: str, seed: int, scale: float) -> None:
    check(utterance, RandomModel(seed, scale))


@given(
    st.sampled_from(SPOKEN),
    st.sampled_from(["", " 40", "到百分之四十", " 999999", "好吗"]),
    st.integers(0, 2**32 - 1),
)
@settings(deadline=None)
def test_what_people_say_and_any_logits(example: str, ending: str, seed: int) -> None:
    check(example + ending, RandomModel(seed, 20.0))


def test_the_model_is_really_asked() -> None:
    model = RandomModel(1, 1.0)
    check("把音量调到百分之四十", model)
    assert model.asked
