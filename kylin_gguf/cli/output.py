"""What users see: data on stdout, everything else on stderr, colour and bars only on terminals."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from kylin_gguf.records import Progress, ProgressCallback

_STEP = 1000.0


def print_json(value: Mapping[str, Any]) -> None:
    """Print one object on a line of stdout."""
    print(json.dumps(value, ensure_ascii=False), flush=True)


def notice(text: str) -> None:
    """Tell the user something that is not the result."""
    print(text, file=sys.stderr, flush=True)


def printable(text: str) -> str:
    """Return ``text`` without control characters: a model's words must not steer the terminal."""
    return "".join(c for c in text if c in "\n\t" or not (ord(c) < ord(" ") or "\x7f" <= c <= "\x9f"))


def size(count: float) -> str:
    """Return a number of bytes for people, in decimal units."""
    for unit in ("B", "kB", "MB"):
        if count < _STEP:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= _STEP
    return f"{count:.2f} GB"


def clear_screen() -> None:
    """Begin anew on a terminal; elsewhere nothing is cleared."""
    Console().clear()


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table on a terminal, else lines of tab-separated values without a head."""
    console = Console()
    if not console.is_terminal:
        for row in rows:
            print("\t".join(row))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)


def print_fields(fields: Mapping[str, str]) -> None:
    """Print names and values, one pair a line."""
    width = max(map(len, fields), default=0)
    for name, value in fields.items():
        print(f"{name:<{width}}  {value}")


@contextmanager
def progress() -> Iterator[ProgressCallback]:
    """Yield a callback that shows progress on stderr.

    A terminal gets a bar with the time left; otherwise each new stage is one line.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _StageLines()
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=console, transient=True) as bars:
        yield _StageBars(bars)


class _StageLines:
    def __init__(self) -> None:
        self._stage = ""

    def __call__(self, event: Progress) -> None:
        if event.stage != self._stage:
            self._stage = event.stage
            notice(event.stage)


class _StageBars:
    """One bar for the current stage; a stage that ended without ever having a size stays as a line."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._last = Progress("", 0)
        self._task = bars.add_task("", total=None, visible=False)

    def __call__(self, event: Progress) -> None:
        if event.stage != self._last.stage:
            if self._last.stage and not self._last.total:
                self._bars.console.print(Text(self._last.stage))
            self._bars.remove_task(self._task)
            self._task = self._bars.add_task(event.stage, total=event.total or None)
        self._last = event
        self._bars.update(self._task, completed=event.done, total=event.total or None)
