"""The benchmarks' command line.

    python -m bench list
    python -m bench run CASE... [--model NAME_OR_GGUF ...] [--rounds N] [--set NAME=N ...] [--threads N]
    python -m bench report

``run`` measures cases, each with every model, prints what came out and adds a record to bench/results.
``report`` writes the newest records' tables into docs/performance.md, their plots beside it, and a few
figures into the readmes.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench import cases, headlines, plots, record, report, runner
from bench.case import Case, Wanted
from bench.record import RESULTS, Record
from kylin_gguf import catalogue, config
from kylin_gguf.errors import KylinError, near
from kylin_gguf.store import Store

_ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = _ROOT / "docs" / "performance.md"
READMES: dict[Path, headlines.Language] = {_ROOT / "README.md": "en", _ROOT / "README.zh-CN.md": "zh"}
PLOTS = DOCUMENT.with_suffix("")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command that the arguments name."""
    options = _parser().parse_args(arguments)
    try:
        options.command(options)
    except KylinError as error:
        raise SystemExit(f"bench: {error}") from error
    except (KeyboardInterrupt, asyncio.CancelledError) as interruption:
        raise SystemExit("bench: interrupted; nothing was recorded of this case") from interruption


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    listing = commands.add_parser("list", help="say which cases there are")
    listing.set_defaults(command=_list)
    run = commands.add_parser("run", help="measure")
    run.add_argument("cases", nargs="+", metavar="CASE", help="names, with * for any text")
    run.add_argument(
        "--model", action="append", default=[], help="a name or a GGUF; default: the default model"
    )
    run.add_argument(
        "--rounds", type=_positive, default=0, help="samples of each contender; default: the case's"
    )
    run.add_argument("--set", action="append", default=[], metavar="NAME=N", help="change a case's parameter")
    run.add_argument("--threads", type=_positive, default=0, help="default: as the planner decides")
    run.add_argument(
        "--results", type=Path, default=RESULTS, help="where records go (default: bench/results)"
    )
    run.set_defaults(command=_run)
    show = commands.add_parser("report", help="write docs/performance.md and the readmes' table")
    show.add_argument(
        "--results", type=Path, default=RESULTS, help="where records are (default: bench/results)"
    )
    show.set_defaults(command=_report)
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is less than 1")
    return value


def _list(_: argparse.Namespace) -> None:
    for case in cases.every().values():
        print(f"{case.name}: {case.measures}")
        for figure in case.figures:
            print(f"    {figure.name} ({figure.unit}, {figure.better} is better): {figure.meaning}")
        settings = ", ".join(f"{name}={value}" for name, value in case.parameters.items())
        print(f"    {case.rounds} rounds; {settings}")


def _run(options: argparse.Namespace) -> None:
    chosen = cases.named(options.cases)
    parameters = {case.name: _parameters(case, options.set) for case in chosen}
    settings = config.load()
    store = Store(settings, catalogue.load(settings.catalogue))
    models = [store.resolve(name) for name in options.model] or [store.default()]
    for case in chosen:
        for model in models:
            wanted = Wanted(model, parameters[case.name], options.threads)
            found = asyncio.run(_measure(case, wanted, options.rounds or case.rounds))
            for line in report.lines(found):
                print(line)
            print(f"recorded in {record.append(found, options.results)}\n", flush=True)


def _parameters(case: Case, given: Sequence[str]) -> Mapping[str, int]:
    """Return the case's parameters, changed as ``given`` says.

    Raises:
        SystemExit: an unknown name, or a value that is no number.
    """
    chosen = dict(case.parameters)
    for item in given:
        name, _, value = item.partition("=")
        if name not in chosen:
            hint = ", ".join(near(name, tuple(chosen))) or ", ".join(chosen) or "none"
            raise SystemExit(f"{case.name} has no parameter {name}; did you mean {hint}?")
        if not value.isdecimal():
            raise SystemExit(f"{item}: not a number")
        chosen[name] = int(value)
    return chosen


async def _measure(case: Case, wanted: Wanted, rounds: int) -> Record:
    """Take the samples of one case with one model; SIGTERM ends it as Ctrl-C does, children included."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    print(f"{case.name}, {wanted.model.path.name}, {rounds} rounds", flush=True)
    machine, taken = record.machine(), record.now()
    machine["busy_before"] = await record.busy_share()
    async with case.prepare(wanted) as prepared:
        samples = await runner.take(case, prepared, rounds, _say)
    conditions = {
        "sampling": "greedy",
        **prepared.conditions,
        "parameters": dict(wanted.parameters),
        "least_rounds": case.least_rounds,
    }
    return Record(
        case=case.name,
        measures=case.measures,
        figures=case.figures,
        bars=case.bars,
        taken=taken,
        machine=machine,
        versions=record.versions(),
        model=record.describe(wanted.model),
        conditions=conditions,
        rounds=samples,
    )


def _say(line: str) -> None:
    print(line, flush=True)


def _report(options: argparse.Namespace) -> None:
    try:
        newest = report.latest(record.read(options.results))
        results = {DOCUMENT: report.tables(newest)}
        results |= {page: headlines.table(newest, language) for page, language in READMES.items()}
        pages = {p: report.document(p.read_text(encoding="utf-8"), text) for p, text in results.items()}
    except ValueError as error:
        raise SystemExit(f"bench: {error}") from error
    for page, text in pages.items():
        page.write_text(text, encoding="utf-8")
        print(page)
    for path in plots.draw(newest, PLOTS):
        print(path)
