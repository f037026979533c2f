"""Labelled utterances, and whether an answer to one is right."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROWS = Path(__file__).parent / "data" / "commands-check.jsonl"


@dataclass(frozen=True)
class Row:
    """An utterance, and the entry of openKylin's command table that it asks for; None: it asks for none."""

    utterance: str
    name: str | None


def rows(path: Path = ROWS) -> tuple[Row, ...]:
    """Return all rows of a file, in order; the shipped ones are shuffled."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return tuple(Row(row["utterance"], row["name"]) for row in map(json.loads, lines))


def part(number: int, count: int) -> Iterator[Row]:
    """Yield ``count`` rows of round ``number``: other ones in each, so that no cache knows them."""
    found = rows()
    for index in range(number * count, (number + 1) * count):
        yield found[index % len(found)]
