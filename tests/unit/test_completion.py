"""What the shells' completion asks the program, in the way in which typer's scripts ask."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiny_model import write_model

SHELLS = {
    "bash": lambda line: {"COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))},
    "zsh": lambda line: {"_TYPER_COMPLETE_ARGS": line},
    "fish": lambda line: {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
}


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    write_model(tmp_path / "qwen-of-mine.gguf")
    settings = {"KYLIN_GGUF_MODELS_DIR": str(tmp_path), "KYLIN_GGUF_SYSTEM_MODEL_DIRS": "", "LANGUAGE": "C"}
    return {**os.environ, **settings}


def ask(environment: dict[str, str], shell: str, line: str) -> str:
    asked = {"_KYLIN_GGUF_COMPLETE": f"complete_{shell}", **SHELLS[shell](line)}
    command = [sys.executable, "-m", "kylin_gguf"]
    done = subprocess.run(command, env=environment | asked, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("shell", SHELLS)
def test_commands_options_and_models(environment: dict[str, str], shell: str) -> None:
    commands = ask(environment, shell, "kylin-gguf st")
    assert "status" in commands and "stop" in commands and "serve" not in commands
    assert "--watch" in ask(environment, shell, "kylin-gguf status --w")
    for line in ("kylin-gguf rm qwen-of", "kylin-gguf stop ", "kylin-gguf chat -m qwen"):
        assert "qwen-of-mine" in ask(environment, shell, line), line
    absent = ask(environment, shell, "kylin-gguf pull qwen")
    assert "qwen3-0.6b" in absent and "qwen-of-mine" not in absent


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_for_the_shell_asks_by_the_same_variable(shell: str) -> None:
    asked = {**os.environ, "_KYLIN_GGUF_COMPLETE": f"source_{shell}"}
    done = subprocess.run(
        [sys.executable, "-m", "kylin_gguf"], env=asked, capture_output=True, text=True, check=False
    )
    assert f"_KYLIN_GGUF_COMPLETE=complete_{shell}" in done.stdout


def test_bad_settings_complete_nothing_and_say_nothing(environment: dict[str, str]) -> None:
    broken = environment | {"KYLIN_GGUF_CONTEXT_LENGTH": "many"}
    assert ask(broken, "bash", "kylin-gguf rm qwen").strip() == ""
