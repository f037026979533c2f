"""How well a catalogue of CLINC150's intents is understood, and how well what is outside of it is let be.

    python -m bench.clinc DEV.json [--examples 10] [--model GGUF]

The file has the lists ``val`` (rows of [text, intent], 20 of each of 150 intents), ``oos_train`` and
``oos_val`` (texts that none of them means), of Larson et al. 2019, CC BY 3.0. ``--examples`` rows of each
intent are its command's examples, drawn by their hashes; the others, and ``oos_val``, are asked. The texts of
``oos_train`` are the catalogue's negatives. Answers are the product's own. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench import massive
from bench.massive import Row
from kylin_gguf import config
from kylin_gguf.actuator.catalogue import CommandCatalogue, Example
from kylin_gguf.actuator.interpret import Interpreter
from kylin_gguf.actuator.shortlist import Shortlist
from kylin_gguf.actuator.study import Study
from kylin_gguf.actuator.wording import normalise
from kylin_gguf.model_states import ModelStates
from kylin_gguf.pool import EnginePool
from kylin_gguf.records import InstalledModel


def _rows(pairs: Sequence[tuple[str, str]]) -> list[Row]:
    return [Row(normalise(text), intent) for text, intent in pairs]


def _catalogue(rows: Sequence[Row], none: Sequence[Row]) -> CommandCatalogue:
    negatives = tuple(Example(row.text, None) for row in none)
    return replace(massive.catalogue(rows), name="clinc", negatives=negatives)


async def _ask(
    interpreter: Interpreter, rows: Sequence[Row], none: Sequence[Row], model: ModelStates | None
) -> dict[str, float]:
    answers = [await interpreter.interpret(row.text, model) for row in (*rows, *none)]
    known = [found.command for found in answers[: len(rows)]]
    right = [command == row.intent for command, row in zip(known, rows, strict=True)]
    figures = {
        "right": statistics.mean(right),
        "unanswered": statistics.mean(command is None for command in known),
        "let_be": statistics.mean(found.command is None for found in answers[len(rows) :]),
        "asked_model": statistics.mean(found.decided_by == "model" for found in answers),
    }
    return {name: round(100 * value, 2) for name, value in figures.items()}


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return what part of the rows in scope is right, and of those out of scope is let be, in percent."""
    data = json.loads(options.dev.read_text(encoding="utf-8"))
    rows, none = _rows(data["val"]), _rows(data["oos_val"])
    shown = massive.drawn(rows, options.examples)
    asked = [row for row in rows if row not in set(shown)]
    catalogue = _catalogue(shown, _rows(data["oos_train"]))
    found: dict[str, Any] = {"examples": options.examples, "rows": len(asked), "out_of_scope": len(none)}
    found["wording"] = await _ask(Interpreter(catalogue), asked, none, None)
    if not options.model:
        return found
    model = InstalledModel(options.model.stem, options.model, options.model.stat().st_size, writable=False)

    async def find() -> InstalledModel:
        return model

    with tempfile.TemporaryDirectory() as scratch:
        pool = EnginePool(config.load({"speculation": "off", "cache_dir": scratch}))
        states, study = ModelStates(pool, find), Study(Path(scratch) / "readouts")
        try:
            words = await massive.known_words(states, Path(scratch))
            interpreter = Interpreter(catalogue, lambda learning: Shortlist(learning, words), study)
            if words:
                found["meaning"] = await _ask(interpreter, asked, none, None)
            await interpreter.learn(states, massive.tell)
            return found | {"model": model.name, "with_model": await _ask(interpreter, asked, none, states)}
        finally:
            await pool.close()


def main() -> None:
    """Measure what the arguments ask for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dev", type=Path)
    parser.add_argument("--examples", type=int, default=10)
    parser.add_argument("--model", type=Path)
    print(json.dumps(asyncio.run(measure(parser.parse_args())), ensure_ascii=False))


if __name__ == "__main__":
    main()
