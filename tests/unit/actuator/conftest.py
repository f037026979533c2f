"""The shipped catalogue and its trained interpreter, built once."""

import math
from pathlib import Path

import pytest

import kylin_gguf.actuator
from kylin_gguf.actuator import reader
from kylin_gguf.actuator.catalogue import CommandCatalogue
from kylin_gguf.actuator.interpret import Interpreter
from kylin_gguf.actuator.shortlists import IN_PACKAGE, Shortlists
from kylin_gguf.records import ScoreRequest, Scores


@pytest.fixture(scope="session")
def shipped() -> CommandCatalogue:
    return reader.load(Path(kylin_gguf.actuator.__file__).parent / "commands" / "openkylin")


@pytest.fixture(scope="session")
def interpreter(shipped: CommandCatalogue) -> Interpreter:
    return Interpreter(shipped, Shortlists(IN_PACKAGE).of)


async def uniform(request: ScoreRequest) -> Scores:
    """A model that knows nothing."""
    count = len(request.continuations)
    return Scores((-math.log(count),) * count, 0.0, 0.0)
