"""Records of measurements: the machine, the versions and every sample, so that anyone can judge a ratio."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

RESULTS = Path(__file__).parent / "results"
FORMAT = 1


@dataclass(frozen=True)
class Comparison:
    """Samples of ours and of a peer, taken in turns in one run; ``unit`` is the same for both."""

    what: str
    unit: str
    ours: tuple[float, ...]
    peer: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """Ours over the peer's: the median of the ratios of samples taken next to each other."""
        return median(a / b for a, b in zip(self.ours, self.peer, strict=True))

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object with the medians and every sample."""
        return {
            "what": self.what,
            "unit": self.unit,
            "ratio": round(self.ratio, 4),
            "ours": {"median": median(self.ours), "samples": self.ours},
            "peer": {"median": median(self.peer), "samples": self.peer},
        }


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
        "load_average_before": os.getloadavg()[0],
    }


def commit() -> str:
    """Return the checkout's commit, with ``-dirty`` when files differ from it."""
    found = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=True
    )
    return found.stdout.strip()


def write(name: str, versions: dict[str, str], conditions: dict[str, Any], results: list[Comparison]) -> Path:
    """Write a record under ``bench/results`` and return its path."""
    facts = machine()
    record = {
        "format": FORMAT,
        "name": name,
        "taken": datetime.now(UTC).strftime("%Y-%m-%dT%H:%MZ"),
        "machine": facts,
        "versions": {"kylin-gguf-engine": commit(), **versions},
        "conditions": conditions,
        "results": [result.to_json() for result in results],
    }
    slug = re.sub(r"[^a-z0-9]+", "-", str(facts["processor"]).lower()).strip("-")
    path = RESULTS / f"{slug}-{facts['cores']}-cores" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    return path
