"""Records of measurements: machine, versions, conditions and every sample, so that anyone can judge them.

A file of ``bench/results/<machine>/`` holds one record a line for each run of one case. Medians, ratios and
verdicts are not in it: ``bench.report`` computes them from the samples.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from hashlib import file_digest
from pathlib import Path
from typing import Any, Self

from bench.case import Bar, Dropped, Figure, Round, Sample
from kylin_gguf.records import InstalledModel

RESULTS = Path(__file__).parent / "results"
FORMAT = 2


@dataclass(frozen=True)
class Record:
    """One run of one case with one model."""

    case: str
    measures: str
    figures: tuple[Figure, ...]
    bars: tuple[Bar, ...]
    taken: str
    """UTC, ISO 8601, to the second."""
    machine: Mapping[str, Any]
    versions: Mapping[str, str]
    model: Mapping[str, Any]
    conditions: Mapping[str, Any]
    """``threads``, ``parameters``, ``least_rounds``, and what else the case says."""
    rounds: tuple[Round, ...]

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object that ``from_json`` reads."""
        return {
            "format": FORMAT,
            **{name: getattr(self, name) for name in ("case", "measures", "taken")},
            **{name: dict(getattr(self, name)) for name in ("machine", "versions", "model", "conditions")},
            "figures": [asdict(figure) for figure in self.figures],
            "bars": [asdict(bar) for bar in self.bars],
            "rounds": [{name: _outcome_to_json(o) for name, o in given.items()} for given in self.rounds],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Rebuild from ``to_json``.

        Raises:
            ValueError: the record is of another format.
        """
        if value.get("format") != FORMAT:
            raise ValueError(f"record of format {value.get('format')!r}; this is format {FORMAT}")
        rest = {
            key: item for key, item in value.items() if key not in ("format", "figures", "bars", "rounds")
        }
        return cls(
            **rest,
            figures=tuple(Figure(**item) for item in value["figures"]),
            bars=tuple(Bar(**item) for item in value["bars"]),
            rounds=tuple(
                {name: _outcome_from_json(o) for name, o in given.items()} for given in value["rounds"]
            ),
        )

    @property
    def contenders(self) -> tuple[str, ...]:
        """The names of the contenders, in the case's order."""
        return tuple(self.rounds[0]) if self.rounds else ()


def _outcome_to_json(outcome: Sample | Dropped) -> dict[str, Any]:
    if isinstance(outcome, Dropped):
        return {"dropped": outcome.reason}
    parts = {"figures": outcome.figures, "facts": outcome.facts, "series": outcome.series}
    return {key: dict(part) for key, part in parts.items() if part}


def _outcome_from_json(value: Mapping[str, Any]) -> Sample | Dropped:
    if "dropped" in value:
        return Dropped(value["dropped"])
    return Sample(value.get("figures", {}), value.get("facts", {}), value.get("series", {}))


def now() -> str:
    """Return the time as records have it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def machine() -> dict[str, Any]:
    """Return what of this machine a measurement depends on, and nothing that identifies it."""
    cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    model = re.search(r"^model name\s*:\s*(.+)$", cpuinfo, re.M)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": model[1] if model else platform.machine(),
        "cores": os.cpu_count(),
        "memory_bytes": memory,
        "kernel": platform.release().split("-")[0],
        "load_average_before": round(os.getloadavg()[0], 2),
        **({"gpus": gpus} if (gpus := _nvidia_gpus()) else {}),
    }


def _nvidia_gpus() -> list[str]:
    """Return the names that NVIDIA's kernel driver gives its GPUs; those of others have none in /proc."""
    told = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    names = (re.search(r"^Model:\s*(.+)$", file.read_text(encoding="utf-8"), re.M) for file in told)
    return [name[1] for name in names if name]


async def busy_share(seconds: float = 1.0) -> float:
    """Return the share of the processors that was in use for ``seconds`` from now on, 0 to 1.

    A load average still has in it what ran minutes ago, the case before this one for instance.
    """
    busy, total = _processor_time()
    await asyncio.sleep(seconds)
    busy_after, total_after = _processor_time()
    return round((busy_after - busy) / max(total_after - total, 1), 3)


def _processor_time() -> tuple[int, int]:
    """Return the ticks in use and all ticks since the start, of all processors (proc(5), stat)."""
    first = Path("/proc/stat").read_text(encoding="ascii").partition("\n")[0]
    user, nice, system, idle, waiting, *rest = map(int, first.split()[1:9])
    busy = user + nice + system + sum(rest)
    return busy, busy + idle + waiting


def commit() -> str:
    """Return the checkout's commit, with ``-dirty`` when files differ from it."""
    found = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=True,
    )
    return found.stdout.strip()


def versions() -> dict[str, str]:
    """Return what was measured; the libraries are loaded in a child, to keep them out of the client."""
    script = "from kylin_gguf import config, native; print(native.load(config.load()).version)"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return {"kylin-gguf-engine": commit(), "llama.cpp": found.stdout.strip()}


def describe(model: InstalledModel) -> dict[str, Any]:
    """Return the model's file name, size and hash, which say which weights these were."""
    with model.path.open("rb") as file:
        digest = file_digest(file, "sha256").hexdigest()
    return {"file": model.path.name, "size": model.size, "sha256": digest}


def folder(measured_on: Mapping[str, Any], results: Path = RESULTS) -> Path:
    """Return the folder for what was measured on this ``machine()``."""
    parts = [measured_on["processor"], f"{measured_on['cores']} cores", *measured_on.get("gpus", [])]
    return results / re.sub(r"[^a-z0-9]+", "-", " ".join(map(str, parts)).lower()).strip("-")


def place(record: Record, results: Path) -> Path:
    """Return the file that ``record`` belongs into."""
    return folder(record.machine, results) / f"{record.case.replace('/', '-')}.jsonl"


def append(record: Record, results: Path = RESULTS) -> Path:
    """Add ``record`` to its file and return the path."""
    path = place(record, results)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record.to_json(), ensure_ascii=False, separators=(",", ":")) + "\n")
    return path


def read(results: Path = RESULTS) -> Iterator[tuple[str, Record]]:
    """Yield the name of the machine's folder and each record under ``results``.

    Raises:
        ValueError: a line is not a record of this format; names the file and the line.
    """
    for path in sorted(results.glob("*/*.jsonl")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            try:
                yield path.parent.name, Record.from_json(json.loads(line))
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{path}:{number}: {error}") from error
