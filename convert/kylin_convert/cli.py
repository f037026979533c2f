"""The ``convert`` command: reads options, runs the pipeline, shows what happens."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from kylin_convert import pipeline, source
from kylin_convert.manifest import Manifest
from kylin_convert.plan import Plan
from kylin_gguf import config
from kylin_gguf.records import Progress
from kylin_gguf.translation import N_
from kylin_gguf.translation import translate as _

_STAGES = {
    "download": N_("Downloading"),
    "hash": N_("Reading the source"),
    "write": N_("Writing the unquantised file"),
    "imatrix": N_("Measuring importance"),
    "quantise": N_("Quantising"),
    "place": N_("Writing the file"),
    "verify": N_("Verifying"),
    "check source": N_("Checking the source"),
    "check output": N_("Checking the result"),
}


def register(app: typer.Typer) -> None:
    """Add the command to ``app``; called through the entry point group ``kylin_gguf.commands``."""
    app.command(
        "convert",
        help=_("Convert a model to a small GGUF: importance matrix, quantisation, verification, manifest.")
        + "\n\n"
        + _("An interrupted conversion resumes when the same command is given again.")
        + "\n\n"
        + _("Example: kylin-gguf convert ./Qwen2.5-0.5B-Instruct --quant Q4_K_M -o qwen.gguf"),
    )(convert)


def convert(  # noqa: PLR0913, PLR0917 - one parameter for each option
    source_name: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help=_("A Hugging Face folder, a GGUF file, the name of an installed model, or a hub id."),
        ),
    ],
    quant: Annotated[
        str, typer.Option("--quant", "-q", help=_("One of llama.cpp's types, such as Q4_K_M, Q8_0 or F16."))
    ] = "Q4_K_M",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help=_("What to write. Default: NAME-QUANT.gguf here."))
    ] = None,
    force: Annotated[bool, typer.Option("--force", help=_("Replace the output if it exists."))] = False,
    keep: Annotated[bool, typer.Option("--keep", help=_("Keep the unquantised file in the cache."))] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help=_("Show the plan and stop."))] = False,
    as_json: Annotated[bool, typer.Option("--json", help=_("Print JSON objects, one a line."))] = False,
    calibration: Annotated[
        Path | None,
        typer.Option(help=_("Text to weigh the importance of weights with: .jsonl of messages, or plain.")),
    ] = None,
) -> None:
    """Command ``convert``."""
    settings = config.load()
    with _terminable(), _view(as_json) as view:
        opened = source.open_source(source_name, settings, view.progress)
        target = output or Path(f"{Path(opened.name).name.removesuffix('.gguf')}-{quant.upper()}.gguf")
        request = pipeline.Request(opened, target, quant, force, keep, calibration)
        if dry_run:
            view.plan(pipeline.plan(request, settings))
        else:
            view.done(pipeline.convert(request, settings, view.progress, view.notice), target)


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM unwind the stack as Ctrl-C does, so that the same clean-up runs."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _view(as_json: bool) -> Iterator[_View]:
    if as_json:
        yield _JsonView()
        return
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=console, disable=not console.is_terminal, transient=True) as bars:
        yield _View(bars)


class _View:
    """For people: bars on a terminal's stderr, the result on stdout."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def progress(self, event: Progress) -> None:
        if event.stage not in self._tasks:
            self._tasks[event.stage] = self._bars.add_task(_(_STAGES[event.stage]), total=None)
        total = event.total or None
        self._bars.update(self._tasks[event.stage], completed=event.done, total=total)

    def notice(self, text: str) -> None:
        self._bars.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def plan(self, plan: Plan) -> None:
        for text in plan.notices:
            self.notice(text)
        print(f"{plan.source} ({plan.kind}, {_size(plan.source_bytes)}) -> {plan.output}")
        print(f"{_('Steps')}: {', '.join(plan.steps)}")
        needs = _("Disk: {work} in the cache while it runs, at most {output} for the result.")
        print(needs.format(work=_size(plan.work_bytes), output=_size(plan.output_bytes)))

    def done(self, manifest: Manifest, target: Path) -> None:
        made, measured = manifest.output, manifest.perplexity
        print(f"{target}: {_size(made['bytes'])}, {made['bits_per_weight']} bits a weight")
        text = _("Perplexity on a sample: {output:.2f}, before quantisation {source:.2f}")
        print(text.format(output=measured["output"], source=measured["source"]))


class _JsonView(_View):
    """For programs: one object a line on stdout."""

    def __init__(self) -> None:
        self._print: Callable[[dict[str, Any]], None] = lambda value: print(
            json.dumps(value, ensure_ascii=False), flush=True
        )
        self._last: dict[str, int] = {}

    def progress(self, event: Progress) -> None:
        percent = int(100 * event.fraction)
        if self._last.get(event.stage) != percent:
            self._last[event.stage] = percent
            fields = {"stage": event.stage, "done": event.done, "total": event.total, "unit": event.unit}
            self._print({"type": "progress", **fields})

    def notice(self, text: str) -> None:
        self._print({"type": "notice", "text": text})

    def plan(self, plan: Plan) -> None:
        self._print({"type": "plan", **plan.to_json()})

    def done(self, manifest: Manifest, target: Path) -> None:
        summary = {"output": dict(manifest.output), "perplexity": dict(manifest.perplexity)}
        self._print({"type": "done", "path": str(target), **summary})


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"  # noqa: PLR2004
