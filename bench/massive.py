"""How well a catalogue's examples and a model understand MASSIVE's 60 intents, each a command.

    python -m bench.massive TRAIN.jsonl DEV.jsonl --language zh [--examples 10] [--model GGUF] [--states DIR]

The files have one JSON object a line with ``intent`` and, under ``zh`` and ``en``, the utterance (MASSIVE
1.0, FitzGerald et al. 2022, CC BY 4.0). ``--examples``: so many of each intent, drawn by their hashes, or 0
for all. No model is trained; what it is shown, what it knows of words, and how what it makes of a row is
weighed, is the product's own way. There is no "none" in MASSIVE: the best intent counts. ``--states`` names a
folder where hidden states are kept, for a run that is interrupted: with those, ``p50_ms`` is without the
model. Prints one JSON object: ``wording`` is the share that is right by the examples' words, ``meaning`` by
what these mean to the model as well, ``right`` with the model itself.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.kept_states import KeptStates
from kylin_gguf import config
from kylin_gguf.actuator.catalogue import Command, CommandCatalogue, Example
from kylin_gguf.actuator.index import Index
from kylin_gguf.actuator.shipped import load_commands
from kylin_gguf.actuator.shortlist import Scores, Shortlist
from kylin_gguf.actuator.shortlists import IN_PACKAGE, Shortlists
from kylin_gguf.actuator.study import HiddenStates, Study
from kylin_gguf.actuator.values import Utterance
from kylin_gguf.actuator.word_tables import WordTables
from kylin_gguf.actuator.word_vectors import WordVectors
from kylin_gguf.actuator.wording import normalise
from kylin_gguf.model_states import ModelStates
from kylin_gguf.pool import EnginePool
from kylin_gguf.records import InstalledModel, Progress


@dataclass(frozen=True)
class Row:
    """What somebody says, and the intent."""

    text: str
    intent: str


def read(path: Path, language: str) -> list[Row]:
    """Return the rows of a file."""
    rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return [Row(normalise(row[language]), row["intent"]) for row in rows]


def drawn(rows: Sequence[Row], count: int) -> list[Row]:
    """Return ``count`` rows of each intent, or all for 0: always the same ones."""
    order = sorted(rows, key=lambda row: hashlib.blake2b(row.text.encode()).digest())
    taken: dict[str, int] = {}
    chosen = []
    for row in order:
        taken[row.intent] = taken.get(row.intent, 0) + 1
        if not count or taken[row.intent] <= count:
            chosen.append(row)
    return chosen


def catalogue(rows: Sequence[Row]) -> CommandCatalogue:
    """Return a catalogue in which each intent is a command without arguments, described by its name."""
    examples: dict[str, dict[str, Example]] = {}
    for row in rows:
        examples.setdefault(row.intent, {})[row.text] = Example(row.text, row.intent)
    commands = (
        Command(intent, {"en": intent.replace("_", " ")}, (), tuple(of.values()))
        for intent, of in examples.items()
    )
    return CommandCatalogue("massive", tuple(commands))


def _best(scores: Scores) -> str | None:
    return max(scores.items(), key=lambda item: item[1])[0].command


def tell(event: Progress) -> None:
    """Print how far learning is."""
    print(f"\r{event.stage} {event.fraction:.0%} ", end="", file=sys.stderr)


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return the accuracies."""
    train = drawn(read(options.train, options.language), options.examples)
    dev = read(options.dev, options.language)[: options.rows or None]
    index = Index.train(catalogue(train))
    found: dict[str, Any] = {
        "language": options.language,
        "examples": options.examples or "all",
        "rows": len(dev),
        "wording": _right(index, dev),
    }
    if not options.model:
        return found
    model = InstalledModel(options.model.stem, options.model, options.model.stat().st_size, writable=False)

    async def find() -> InstalledModel:
        return model

    async with contextlib.AsyncExitStack() as stack:
        scratch = stack.enter_context(tempfile.TemporaryDirectory())
        pool = EnginePool(config.load({"speculation": "off", "cache_dir": scratch}))
        stack.push_async_callback(pool.close)
        states: HiddenStates = ModelStates(pool, find)
        if options.states:
            states = kept = KeptStates(states, options.states)
            stack.push_async_callback(kept.write)
        found["model"] = model.name
        words = await known_words(states, Path(scratch))
        if words:
            index = Index.train(catalogue(train), learn=lambda learning: Shortlist(learning, words))
            found["meaning"] = _right(index, dev)
        return found | await _with_model(states, index, dev, Path(scratch))


async def known_words(model: HiddenStates, scratch: Path) -> WordVectors | None:
    """Return the vectors of words that a service takes from ``model``: they are made for, and judged by, the
    commands that ship."""
    tables = WordTables(scratch / "words")
    shipped = Index.train(load_commands(()), learn=Shortlists(IN_PACKAGE).of)
    tables.judge(await model.identity(), await model.file(), shipped.learning)
    return tables.in_force()


def _right(index: Index, rows: Sequence[Row]) -> float:
    right = [_best(index.match(Utterance(row.text))) == row.intent for row in rows]
    return round(100 * statistics.mean(right), 2)


async def _with_model(
    states: HiddenStates, index: Index, dev: Sequence[Row], scratch: Path
) -> dict[str, Any]:
    study = Study(scratch / "readouts", each=len(index.shortlist.examples))
    began = time.perf_counter()
    await study.learn([index], states, tell)
    learnt = time.perf_counter()
    right, times = [], []
    for row in dev:
        asked = time.perf_counter()
        heard = await study.hear([index], row.text, states)
        assert heard, "it has just learnt"
        right.append(_best(index.match(Utterance(row.text), (), heard.scores[0])) == row.intent)
        times.append((time.perf_counter() - asked) * 1e3)
    return {
        "right": round(100 * statistics.mean(right), 2),
        "learn_s": round(learnt - began, 1),
        "p50_ms": round(statistics.median(times), 1),
    }


def main() -> None:
    """Measure what the arguments ask for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("train", type=Path)
    parser.add_argument("dev", type=Path)
    parser.add_argument("--language", choices=("zh", "en"), required=True)
    parser.add_argument("--examples", type=int, default=10)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--states", type=Path)
    parser.add_argument("--rows", type=int, default=0)
    print(json.dumps(asyncio.run(measure(parser.parse_args())), ensure_ascii=False))


if __name__ == "__main__":
    main()
