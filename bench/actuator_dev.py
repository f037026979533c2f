"""How well utterances become commands, from the catalogue's examples alone, without a model.

    python bench/actuator_dev.py [--dev ROWS.jsonl] [--negatives LINES.txt]

Prints leave-one-out accuracy over the shipped catalogue's own examples and, where the files are given, the
figures on labelled rows ({"utterance", "name", "value", "argument"}, name null for no command) and the false
alarms on lines that ask for no command. A model's contribution is what a run of the service adds to these.
bench/data/commands-check.jsonl is such a file of rows that nothing may be fitted on.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from collections import Counter
from pathlib import Path
from typing import Any

import kylin_gguf.actuator
from kylin_gguf.actuator import reader
from kylin_gguf.actuator.candidates import enumerate_candidates
from kylin_gguf.actuator.catalogue import CommandCatalogue
from kylin_gguf.actuator.interpret import Interpretation, Interpreter
from kylin_gguf.actuator.shortlist import Shortlist

CATALOGUE = Path(kylin_gguf.actuator.__file__).parent / "commands" / "openkylin"
# openKylin's table has two names for one effect.
SAME_EFFECT = ({"性能", "最佳性能"}, {"节能", "最佳能效"})


def is_right(found: Interpretation, row: dict[str, Any]) -> bool:
    """Whether ``found`` does what the row says: same entry, same value, same argument."""
    if row["name"] is None or found.kylin is None:
        return row["name"] is None and found.command is None
    values = {found.kylin.value, row["value"]}
    if found.kylin.name != row["name"] or (len(values) > 1 and values not in SAME_EFFECT):
        return False
    return row["value"] != "set" or [str(v) for v in found.arguments.values()] == [str(row["argument"])]


def leave_one_out(catalogue: CommandCatalogue) -> None:
    """Print how often an example is understood without itself."""
    started = time.perf_counter()
    shortlist = Shortlist(catalogue)
    trained = time.perf_counter() - started
    right = total = 0
    for example, match in shortlist.leave_one_out():
        if example.command is None:
            continue
        total += 1
        best = next(iter(enumerate_candidates(catalogue, example.text, match, 1)), None)
        forms = [(name, form) for name, form in example.forms if form != "number"]
        right += (
            best is not None
            and best.command == example.command
            and all(str(best.arguments[name]) == form for name, form in forms)
        )
    print(f"catalogue: {len(catalogue.commands)} commands, {total} examples, trained in {trained:.2f} s")
    print(f"leave one out: {right}/{total} = {right / total:.3f} best candidate right")


async def labelled(interpreter: Interpreter, path: Path, *, show: bool) -> None:
    """Print right and false answers on labelled rows."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    right = positives = false = negatives = 0
    by, times = Counter[str](), []
    for row in rows:
        found = await interpreter.interpret(row["utterance"])
        ok = is_right(found, row)
        positives += row["name"] is not None
        negatives += row["name"] is None
        right += ok and row["name"] is not None
        false += not ok and row["name"] is None
        by[f"{found.decided_by} {'right' if ok else 'wrong'}"] += 1
        times.append(found.ms["shortlist"])
        if show and not ok:
            print("  ", row["utterance"], "=>", json.dumps(found.to_json(), ensure_ascii=False))
    print(f"labelled: right {right}/{positives}, false {false}/{negatives}, {dict(by)}")
    print(f"shortlist: median {statistics.median(times):.1f} ms")


async def false_alarms(interpreter: Interpreter, path: Path) -> None:
    """Print how many lines that ask for nothing get a command."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    found = [await interpreter.interpret(line[:300]) for line in lines]
    wrong = [f for f in found if f.command is not None]
    lexical = sum(f.decided_by == "lexical" for f in wrong)
    print(f"negatives: false {len(wrong)}/{len(lines)}, of which {lexical} without asking the model")


def main() -> None:
    """Run what the arguments name, and say what is left out and why."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dev", type=Path, help="labelled rows, JSON lines")
    parser.add_argument("--negatives", type=Path, help="utterances without a command, one a line")
    parser.add_argument("--show", action="store_true", help="print the rows that went wrong")
    options = parser.parse_args()
    catalogue = reader.load(CATALOGUE)
    leave_one_out(catalogue)
    interpreter = Interpreter(catalogue)
    if options.dev:
        asyncio.run(labelled(interpreter, options.dev, show=options.show))
    else:
        print("labelled: skipped, no --dev file given")
    if options.negatives:
        asyncio.run(false_alarms(interpreter, options.negatives))
    else:
        print("negatives: skipped, no --negatives file given")


if __name__ == "__main__":
    main()
