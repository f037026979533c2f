"""The shipped catalogue and its trained interpreter, built once."""

from pathlib import Path

import pytest

import kylin_gguf.actuator
from kylin_gguf.actuator import reader
from kylin_gguf.actuator.catalogue import CommandCatalogue
from kylin_gguf.actuator.interpret import Interpreter
from kylin_gguf.actuator.shortlists import IN_PACKAGE, Shortlists


@pytest.fixture(scope="session")
def shipped() -> CommandCatalogue:
    return reader.load(Path(kylin_gguf.actuator.__file__).parent / "commands" / "openkylin")


@pytest.fixture(scope="session")
def interpreter(shipped: CommandCatalogue) -> Interpreter:
    return Interpreter(shipped, Shortlists(IN_PACKAGE).of)
