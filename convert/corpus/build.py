"""Builds the calibration corpus that the converter ships: ``python convert/corpus/build.py``.

All text is this project's own and under its licence; README.md beside this file lists the parts. The result
is committed. It is not rebuilt with every change of a part, because each corpus makes another importance
matrix of every model: rebuild it on purpose, and measure it (docs/calibration.md).
"""

from __future__ import annotations

import ast
import json
import random
from collections.abc import Iterator
from pathlib import Path

from kylin_gguf.actuator.catalogue import Command, CommandCatalogue, Example, canonical
from kylin_gguf.actuator.shipped import load_commands

_HERE = Path(__file__).parent
_ROOT = _HERE.parents[1]
_TARGET = _HERE.parent / "kylin_convert" / "corpus" / "calibration.jsonl"
_SEED = 20261127
_COMMANDS_A_DIALOGUE = 8
_CODE = (
    "kylin_gguf/errors/likeness.py",
    "kylin_gguf/engine/stream.py",
    "convert/kylin_convert/work.py",
    "bench/processes.py",
)
"""Modules whose functions stand for code."""
_CODE_LINES = range(6, 22)
_FUNCTIONS_A_MODULE = 2
_ASKED = {
    "zh": "把用户的话变成下面的一条命令；都不合适就回答 null。",
    "en": "Turn what the user says into one of these commands, or null where none fits.",
}

Dialogue = list[dict[str, str]]


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _written() -> Iterator[Dialogue]:
    """Yield the conversations that were written for this corpus."""
    for line in (_HERE / "dialogues.jsonl").read_text(encoding="utf-8").splitlines():
        yield json.loads(line)["messages"]


def _passages(language: str) -> Iterator[Dialogue]:
    """Yield questions with a paragraph of prose as the answer."""
    text = (_HERE / f"passages-{language}.txt").read_text(encoding="utf-8")
    for part in text.strip().split("\n\n"):
        question, _, answer = part.partition("\n")
        yield [_message("user", question), _message("assistant", answer)]


def _commands(language: str, catalogue: CommandCatalogue, chance: random.Random) -> Iterator[Dialogue]:
    """Yield conversations of commands, each with the list of those that it may use."""
    commands = list(catalogue.commands)
    chance.shuffle(commands)
    for start in range(0, len(commands), _COMMANDS_A_DIALOGUE):
        group = commands[start : start + _COMMANDS_A_DIALOGUE]
        listed = "\n".join(command.signature() for command in group)
        dialogue = [_message("system", f"{_ASKED[language]}\n{listed}")]
        for command in group:
            if example := _example(command, language, chance):
                arguments = dict(example.forms)
                answer = canonical(command.id, arguments)
                dialogue += [_message("user", example.text), _message("assistant", answer)]
        yield dialogue


def _example(command: Command, language: str, chance: random.Random) -> Example | None:
    """Return an utterance in ``language`` that says all arguments by their names."""
    values = {value.name for value in command.values()}
    names = {argument.name for argument in command.arguments}
    fitting = [
        example
        for example in command.examples
        if {name for name, _ in example.forms} == names
        and all(form in values for _, form in example.forms)
        and any("\u4e00" <= char <= "\u9fff" for char in example.text) == (language == "zh")
    ]
    return chance.choice(fitting) if fitting else None


def _code(chance: random.Random) -> Iterator[Dialogue]:
    """Yield requests for functions of this project, with the functions."""
    for name in _CODE:
        text = (_ROOT / name).read_text(encoding="utf-8")
        functions = [
            node
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            and ast.get_docstring(node)
            and (node.end_lineno or 0) - node.lineno in _CODE_LINES
        ]
        for node in chance.sample(functions, min(_FUNCTIONS_A_MODULE, len(functions))):
            wanted = (ast.get_docstring(node) or "").partition("\n")[0]
            source = ast.get_source_segment(text, node)
            yield [
                _message("user", f"Write a Python function: {wanted}"),
                _message("assistant", f"```python\n{source}\n```"),
            ]


def build() -> str:
    """Return the corpus, a conversation a line, mixed so that each beginning of it has all parts."""
    chance = random.Random(_SEED)
    catalogue = load_commands(())
    parts = [list(_written()), list(_code(chance))]
    for language in ("zh", "en"):
        parts += [list(_passages(language)), list(_commands(language, catalogue, chance))]
    placed = [
        ((number + 0.5) / len(part), index, dialogue)
        for index, part in enumerate(parts)
        for number, dialogue in enumerate(part)
    ]
    placed.sort(key=lambda item: item[:2])
    lines = (json.dumps({"messages": dialogue}, ensure_ascii=False) for _, _, dialogue in placed)
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    _TARGET.write_text(build(), encoding="utf-8")
