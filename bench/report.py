"""Shows records: a run's outcome as lines, all of them as the tables of docs/performance.md."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from bench.case import Bar, Dropped, Figure, Sample
from bench.record import Record
from bench.spread import Spread, Verdict, judge, noise, spread, values_of

BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
BUSY = 0.1
"""Share of the processors in use before a run from which the machine counts as busy with other things."""
EMPTY = "No measurements have been recorded.\n"

_ARROW = {"higher": "↑", "lower": "↓"}
_WORD = {True: "met", False: "**missed**", None: "not measured"}

Key = tuple[str, str, str, str]
"""Machine, case, model file, the case's parameters."""


def latest(records: Iterable[tuple[str, Record]]) -> dict[Key, Record]:
    """Return the newest record of each case with each model and its parameters on each machine, in order."""
    found: dict[Key, Record] = {}
    for machine, record in records:
        key = (machine, record.case, str(record.model["file"]), parameters(record))
        if key not in found or found[key].taken <= record.taken:
            found[key] = record
    return dict(sorted(found.items()))


def parameters(record: Record) -> str:
    """Return what the case's parameters were, for people: ``tokens 128, busy 1``."""
    given = record.conditions.get("parameters", {})
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in given.items())


def verdicts(record: Record) -> list[Verdict]:
    """Hold the record's samples against its bars."""
    figures = {figure.name: figure for figure in record.figures}
    return [judge(bar, figures[bar.figure], record.rounds) for bar in record.bars]


def warnings(record: Record) -> Iterator[str]:
    """Yield everything that speaks against trusting a record."""
    busy = record.machine["busy_before"]
    if busy >= BUSY:
        yield f"{busy:.0%} of the processors were in use before the run"
    for name in record.contenders:
        outcomes = [given[name] for given in record.rounds]
        reasons = [outcome.reason for outcome in outcomes if isinstance(outcome, Dropped)]
        if reasons:
            yield f"{name}: {len(reasons)} of {len(record.rounds)} samples dropped: {reasons[0]}"
        for figure in record.figures:
            values = values_of(record.rounds, name, figure.name)
            if values:
                least = int(record.conditions["least_rounds"])
                yield from (f"{name}, {figure.name}: {reason}" for reason in noise(values, least))


def lines(record: Record) -> Iterator[str]:
    """Yield the outcome of one run for a terminal."""
    for figure, name, found in _measured(record):
        spread_text = f"{number(found.low)} to {number(found.high)}, sd {number(found.sd)}"
        yield f"{figure.name:>20} {name:<16} {number(found.median)} {figure.unit} ({spread_text})"
    for verdict in verdicts(record):
        yield f"{_bar(verdict.bar, record)}: {_found(verdict)} {_WORD[verdict.met].strip('*')}"
    for warning in warnings(record):
        yield f"WARNING: {warning}"


def number(value: float) -> str:
    """Return ``value`` with three significant digits, and no exponent."""
    magnitude = abs(value)
    for limit, digits in ((100, 0), (10, 1), (1, 2)):
        if magnitude >= limit:
            return f"{value:,.{digits}f}"
    return f"{value:.3f}"


def document(page: str, results: str) -> str:
    """Return ``page`` with ``results`` between its markers.

    Raises:
        ValueError: the page has no markers.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the page has no {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{results}\n{END}{after}"


def tables(records: Mapping[Key, Record]) -> str:
    """Return Markdown: for each machine the bars, then every case's figures."""
    if not records:
        return EMPTY
    parts: list[str] = []
    for machine in dict.fromkeys(machine for machine, *_ in records):
        mine = [record for (name, *_), record in records.items() if name == machine]
        parts += _machine(mine)
        for case in dict.fromkeys(record.case for record in mine):
            parts += _case([record for record in mine if record.case == case])
    return "\n".join(parts)


def _machine(records: Sequence[Record]) -> Iterator[str]:
    facts = records[0].machine
    memory = round(facts["memory_bytes"] / (1 << 30))
    parts = [facts["processor"], f"{facts['cores']} cores", *facts.get("gpus", [])]
    yield f"### {', '.join(parts)}, {memory} GiB, Linux {facts['kernel']}\n"
    yield "| case | model | with | held against its bar | found | |"
    yield "|---|---|---|---|---|---|"
    for record in records:
        for verdict in verdicts(record):
            with_what = (record.case, record.model["file"], parameters(record))
            cells = (*with_what, _bar(verdict.bar, record), _found(verdict))
            yield f"| {' | '.join(cells)} | {_WORD[verdict.met]} |"
    yield ""


def _case(records: Sequence[Record]) -> Iterator[str]:
    first = records[0]
    yield f"#### {first.case}\n"
    yield f"{first.measures[0].upper()}{first.measures[1:]}.\n"
    for figure in first.figures:
        yield f"- {figure.name} ({figure.unit}, {figure.better} is better): {figure.meaning}"
    yield "\n| model | with | figure | contender | median | lowest | highest | sd | samples |"
    yield "|---|---|---|---|--:|--:|--:|--:|--:|"
    for record in records:
        for figure, name, found in _measured(record):
            shown = (found.median, found.low, found.high, found.sd)
            cells = " | ".join(map(number, shown))
            named = f"{figure.name} {_ARROW[figure.better]}"
            which = f"{record.model['file']} | {parameters(record)}"
            yield f"| {which} | {named} | {name} | {cells} | {found.count} |"
    yield ""
    for record in records:
        yield f"- {record.model['file']}: {_circumstances(record)}"
        yield from (f"  - Caution: {warning}." for warning in warnings(record))
    yield ""


def _measured(record: Record) -> Iterator[tuple[Figure, str, Spread]]:
    for figure in record.figures:
        for name in record.contenders:
            values = values_of(record.rounds, name, figure.name)
            if values:
                yield figure, name, spread(values)


def _bar(bar: Bar, record: Record) -> str:
    figure = next(figure for figure in record.figures if figure.name == bar.figure)
    sign = "≥" if figure.better == "higher" else "≤"
    if bar.against:
        return f"{bar.figure}: {bar.of} ÷ {bar.against} {sign} {bar.limit:g}"
    return f"{bar.figure}: {bar.of} {sign} {bar.limit:g} {figure.unit}"


def _found(verdict: Verdict) -> str:
    found = verdict.found
    if found is None:
        return "–"
    return f"{number(found.median)} ({number(found.low)} to {number(found.high)})"


def _circumstances(record: Record) -> str:
    shown = [
        f"{key.replace('_', ' ')} {value}"
        for key, value in record.conditions.items()
        if key not in ("parameters", "least_rounds")
    ]
    versions = [f"{name} {version}" for name, version in record.versions.items()]
    parts = [record.taken[:10], ", ".join(versions), ", ".join([*shown, parameters(record)])]
    return "; ".join(parts).rstrip(", ")


def series_of(record: Record) -> Mapping[str, Sequence[float]]:
    """Return the series of the first sample that has any, empty when none does."""
    for given in record.rounds:
        for outcome in given.values():
            if isinstance(outcome, Sample) and outcome.series:
                return outcome.series
    return {}
