"""What the user sees of a running command: bars and sentences, or JSON objects."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.prompt import Confirm
from rich.table import Table
from rich.text import Text

from kylin_convert.manifest import Manifest
from kylin_convert.plan import Plan
from kylin_convert.pruning import Cost
from kylin_gguf.errors import KylinError
from kylin_gguf.gguf_info import GgufInfo
from kylin_gguf.records import Progress
from kylin_gguf.translation import N_
from kylin_gguf.translation import translate as _

_STAGES = {
    "download": N_("Downloading"),
    "hash": N_("Reading the source"),
    "write": N_("Writing the unquantised file"),
    "influence": N_("Measuring what each block changes"),
    "prune": N_("Writing the file without blocks"),
    "imatrix": N_("Measuring importance"),
    "quantise": N_("Quantising"),
    "place": N_("Writing the file"),
    "split": N_("Cutting the file"),
    "check source": N_("Checking the source"),
    "check output": N_("Checking the result"),
}


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM unwind the stack as Ctrl-C does, so that the same clean-up runs."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def opened(as_json: bool) -> Iterator[View]:
    """Show what happens for the length of the block; to programs, also which error ended it."""
    if as_json:
        shown = JsonView()
        try:
            yield shown
        except KylinError as error:
            shown.failed(error)
            raise
        return
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=console, disable=not console.is_terminal, transient=True) as bars:
        yield View(bars)


class View:
    """For people: bars on a terminal's stderr, the result on stdout."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def progress(self, event: Progress) -> None:
        """Show how far a stage is."""
        if event.stage not in self._tasks:
            self._tasks[event.stage] = self._bars.add_task(_(_STAGES[event.stage]), total=None)
        total = event.total or None
        self._bars.update(self._tasks[event.stage], completed=event.done, total=total)

    def notice(self, text: str) -> None:
        """Say something that is not the result."""
        self._bars.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def plan(self, plan: Plan, seconds: Mapping[str, int]) -> None:
        """Show what would be done, and about how long each step takes."""
        for text in plan.notices:
            self.notice(text)
        print(f"{plan.source} ({plan.kind}, {size(plan.source_bytes)}) -> {plan.output}")
        steps = ", ".join(f"{step} ({_duration(seconds[step])})" for step in plan.steps)
        print(f"{_('Steps')}: {steps}")
        needs = _("Disk: {work} in the cache while it runs, at most {output} for the result.")
        print(needs.format(work=size(plan.work_bytes), output=size(plan.output_bytes)))
        print(_("Memory: {memory}, most of it the file that is read.").format(memory=size(plan.memory_bytes)))
        print(_("Time: about {time}.").format(time=_duration(sum(seconds.values()))))

    def pruned(self, model: GgufInfo, cost: Cost) -> None:
        """Show what it costs that ``model`` loses blocks, before it does."""
        before, after = size(model.tensor_bytes), size(cost.bytes)
        blocks = ", ".join(map(str, cost.removed))
        text = _(
            "Without {count} of {all} blocks ({blocks}): {after} instead of {before}, before quantisation."
        )
        self.notice(
            text.format(count=len(cost.removed), all=model.layers, blocks=blocks, after=after, before=before)
        )
        for line in _measured(
            cost.to_json()["quality"], _("perplexity {output:.2f}, of the whole model {source:.2f}")
        ):
            self.notice(line)

    def ask(self, question: str) -> bool:
        """Return whether the user says yes; without an answer it is no."""
        self._bars.stop()
        try:
            return Confirm.ask(question, console=self._bars.console, default=False)
        except EOFError:
            return False
        finally:
            self._bars.start()

    def done(self, manifest: Manifest, target: Path) -> None:
        """Show what was made."""
        made = manifest.output
        print(f"{target}: {size(made['bytes'])}, {made['bits_per_weight']} bits a weight")
        before = _("perplexity {output:.2f}, before quantisation {source:.2f}")
        whole = _("perplexity {output:.2f}, of the whole model {source:.2f}")
        for line in _measured(manifest.quality, whole if manifest.pruning else before):
            print(line)


class JsonView(View):
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

    def plan(self, plan: Plan, seconds: Mapping[str, int]) -> None:
        self._print({"type": "plan", **plan.to_json(), "seconds": dict(seconds)})

    def pruned(self, model: GgufInfo, cost: Cost) -> None:
        self._print({"type": "pruning", "blocks": model.layers, **cost.to_json()})

    def done(self, manifest: Manifest, target: Path) -> None:
        summary = {"output": dict(manifest.output), "quality": dict(manifest.quality)}
        self._print({"type": "done", "path": str(target), **summary})

    def failed(self, error: KylinError) -> None:
        """Say what went wrong, as a stream's ``error`` frame does."""
        self._print({"type": "error", "code": error.code, "message": error.message()})


def _measured(quality: Mapping[str, Any], perplexities: str) -> Iterator[str]:
    """Yield a line for each text; ``perplexities`` says whose they are."""
    text = _("Held-out text, {language}: KL divergence {kl}, same likeliest token {top}")
    for language, measured in quality.items():
        source, result = measured["source"], measured["output"]
        kl, top = plus_minus(result["kl_divergence"], 4), percent(result["same_top"], 1)
        values = {"output": result["perplexity"]["value"], "source": source["perplexity"]["value"]}
        yield f"{text.format(language=language, kl=kl, top=top)}; {perplexities.format(**values)}"


def _duration(seconds: int) -> str:
    minutes, rest = divmod(seconds, 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def plus_minus(estimate: Mapping[str, float], digits: int) -> str:
    """Return a value and its standard error."""
    return f"{estimate['value']:.{digits}f} ± {estimate['error']:.{digits}f}"


def percent(share: Mapping[str, float], digits: int) -> str:
    """Return a share and its standard error in percent."""
    return plus_minus({name: 100 * value for name, value in share.items()}, digits) + " %"


def size(count: int) -> str:
    """Return a number of bytes for people, in decimal units."""
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"  # noqa: PLR2004


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table on a terminal, else lines of tab-separated values below their names."""
    console = Console()
    if not console.is_terminal:
        for row in (head, *rows):
            print("\t".join(row))
        return
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for column in head:
        shown.add_column(column, overflow="fold")
    for row in rows:
        shown.add_row(*map(Text, row))
    console.print(shown)
