"""Prewarming has the model read the very beginning that later questions share."""

from __future__ import annotations

from unittest.mock import patch

from kylin_gguf.actuator import interpret
from kylin_gguf.actuator.interpret import Interpreter
from kylin_gguf.actuator.reader import load
from kylin_gguf.actuator.shipped import SHIPPED_COMMANDS
from kylin_gguf.actuator.shortlists import IN_PACKAGE, Shortlists
from kylin_gguf.records import ScoreRequest, Scores


async def test_questions_begin_as_the_prewarmed_one_did() -> None:
    asked: list[ScoreRequest] = []

    async def score(request: ScoreRequest) -> Scores:
        asked.append(request)
        return Scores((0.0,) * len(request.continuations), 0.0, 0.0)

    interpreter = Interpreter(load(SHIPPED_COMMANDS), Shortlists(IN_PACKAGE).of)
    await interpreter.prewarm(score)
    with patch.object(interpret, "SURE_BELIEF", 2.0):  # no belief is that sure, so the model is always asked
        await interpreter.interpret("声音大一点", score)
    prewarmed, question = asked
    assert prewarmed.messages[0] == question.messages[0]
    assert len(prewarmed.messages[0].content) > len(question.messages[1].content)
