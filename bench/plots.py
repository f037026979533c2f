"""Draws records with matplotlib, which is imported only here and only when a report is made."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from bench.record import Record
from bench.report import Key, parameters, series_of, verdicts

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MET, _MISSED = "#2e7d32", "#c62828"
_ROW_INCHES = 0.32


def draw(records: Mapping[Key, Record], folder: Path) -> list[Path]:
    """Write the figures of each machine into ``folder`` and return their paths.

    The same records give the same bytes: no date, and ids that do not depend on chance.
    """
    import matplotlib as mpl  # noqa: PLC0415

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "kylin-gguf-engine"
    paths = []
    for machine in dict.fromkeys(machine for machine, *_ in records):
        mine = [record for (name, *_), record in records.items() if name == machine]
        folder.mkdir(parents=True, exist_ok=True)
        paths.append(_bars(mine, folder / f"{machine}-bars.svg"))
        paths += [
            _memory(record, folder / f"{machine}-memory-{Path(record.model['file']).stem}.svg")
            for record in mine
            if "requests" in series_of(record)
        ]
    return [path for path in paths if path is not None]


def _bars(records: list[Record], path: Path) -> Path | None:
    """Draw each bar's margin: how far the median is on the good side, as a factor."""
    import matplotlib.pyplot as plt  # noqa: PLC0415

    rows = []
    for record in records:
        better = {figure.name: figure.better for figure in record.figures}
        for verdict in verdicts(record):
            if verdict.found is None or verdict.found.median <= 0:
                continue
            factor = verdict.found.median / verdict.bar.limit
            margin = factor if better[verdict.bar.figure] == "higher" else 1 / factor
            against = f" : {verdict.bar.against}" if verdict.bar.against else ""
            model = Path(record.model["file"]).stem
            label = f"{record.case} {verdict.bar.figure}{against}\n{model}, {parameters(record)}"
            rows.append((label.rstrip(", "), margin))
    if not rows:
        return None
    rows.reverse()
    figure, axes = plt.subplots(figsize=(9, 1 + 1.4 * _ROW_INCHES * len(rows)), layout="constrained")
    labels, margins = zip(*rows, strict=True)
    colours = [_MET if margin >= 1 else _MISSED for margin in margins]
    axes.barh(labels, margins, color=colours, height=0.6)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log")
    axes.set_xlabel("times better than the bar (left of the line: missed)")
    axes.tick_params(axis="y", labelsize=7)
    return _save(figure, path)


def _memory(record: Record, path: Path) -> Path:
    """Draw resident memory over the requests of a soak."""
    import matplotlib.pyplot as plt  # noqa: PLC0415

    series = series_of(record)
    figure, columns = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
    for axes, name in zip(columns, ("worker_mib", "daemon_mib"), strict=True):
        _line(axes, series, name)
    return _save(figure, path)


def _line(axes: Axes, series: Mapping[str, object], name: str) -> None:
    axes.plot(series["requests"], series[name], linewidth=1)  # type: ignore[arg-type] # lists of floats
    axes.set_ylim(bottom=0)
    axes.set_xlabel("requests")
    axes.set_ylabel(f"{name.removesuffix('_mib')}, MiB resident")


def _save(figure: object, path: Path) -> Path:
    import matplotlib.pyplot as plt  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    assert isinstance(figure, Figure)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    return path
