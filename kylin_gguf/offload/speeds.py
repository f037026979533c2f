"""How fast this machine's devices are: measured in a child process, then read from a file.

Other programs take from what is measured and add nothing to it. So a device is measured three times, at least
an hour apart, and the best counts.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, Self

from kylin_gguf.offload import speed
from kylin_gguf.records import Device, Settings

log = logging.getLogger(__name__)

_SECONDS = 60
"""A device that takes longer is not worth using; usual is a second each."""

_TIMES = 3
_APART_SECONDS = 3600


class Figures(NamedTuple):
    """As ``records.Device`` has them; 0: not known, or not remote."""

    bandwidth: float = 0.0
    compute: float = 0.0
    link: float = 0.0
    delay: float = 0.0
    layer: float = 0.0


_UNKNOWN = Figures()
Measure = Callable[[Settings, int, Sequence[str]], Mapping[str, Figures]]


def measure(settings: Settings, threads: int, names: Sequence[str]) -> dict[str, Figures]:
    """Return the speeds of the devices ``names``; without those that could not be measured."""
    command = [sys.executable, "-P", "-m", "kylin_gguf.offload.measure", str(threads), *names]
    environment = os.environ | {"KYLIN_GGUF_NATIVE_DIRS": os.pathsep.join(map(str, settings.native_dirs))}
    try:
        child = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
        output, complaint = child.stdout, child.stderr
    except subprocess.TimeoutExpired as error:
        partial = error.stdout or b""
        output, complaint = partial if isinstance(partial, str) else partial.decode(), "it takes too long"
    found = {}
    for line in output.splitlines():
        item = json.loads(line)
        found[str(item["name"])] = Figures(*(float(item[name]) for name in Figures._fields))
    for name in set(names) - set(found):
        reason = (complaint.strip().splitlines() or ["no reason"])[-1]
        log.warning("the speed of %s could not be measured: %s", name, reason)
    return found


def known(
    settings: Settings, build: str, threads: int, devices: Iterable[Device], measurer: Measure = measure
) -> tuple[Device, ...]:
    """Return ``devices`` with their speeds, measuring those that the cache does not know well enough.

    A file holds for one device with its memory, llama.cpp's build and a number of threads. ggml tells no
    driver's version: after an update of a driver, delete ``speeds`` in the cache. What could not be measured
    counts as 0, unknown. What software pretends is not measured.
    """
    devices = tuple(devices)
    directory = settings.cache_dir / "speeds"
    paths = {device.name: directory / f"{_key(device, build, threads)}.json" for device in devices}
    kept = {name: _Kept.read(path) for name, path in paths.items()}
    due = [
        d.name for d in devices if d.kind != "accel" and not d.software and kept[d.name].due(paths[d.name])
    ]
    fresh = measurer(settings, threads, due) if due else {}
    for name in due:
        kept[name] = kept[name].better(fresh.get(name, _UNKNOWN))
        kept[name].write(paths[name])
    return tuple(_with(device, kept[device.name].best) for device in devices)


@dataclass(frozen=True)
class _Kept:
    """The best figures of a device so far, and how many times it was measured."""

    best: Figures = _UNKNOWN
    times: int = 0

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file of the cache; nothing is known where it is missing or broken."""
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            figures = Figures(*(float(found[name]) for name in Figures._fields))
            times = int(found["times"])
        except (OSError, ValueError, KeyError, TypeError):
            return cls()
        return cls(figures, times) if all(0 <= figure < float("inf") for figure in figures) else cls()

    def due(self, path: Path) -> bool:
        """Return whether the device is to be measured now."""
        if not self.times:
            return True
        try:
            age = time.time() - path.stat().st_mtime
        except OSError:
            return True
        return self.times < _TIMES and age > _APART_SECONDS

    def better(self, figures: Figures) -> Self:
        """Return what is known after one more time."""
        least = {
            name: min(filter(None, (getattr(self.best, name), getattr(figures, name))), default=0.0)
            for name in ("delay", "layer")
        }
        best = Figures(*map(max, self.best, figures))._replace(**least)
        return replace(self, best=best, times=self.times + 1)

    def write(self, path: Path) -> None:
        """Keep it. What cannot be written is measured the next time again."""
        content = {**self.best._asdict(), "times": self.times}
        partial = path.with_suffix(f".{os.getpid()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(json.dumps(content), encoding="utf-8")
            partial.replace(path)
        except OSError as error:
            log.warning("the speed of a device cannot be kept: %s", error)


def _with(device: Device, figures: Figures) -> Device:
    """Return ``device`` with measured speeds. A matrix product reaches a part of the bandwidth that vendors
    state, and it is theirs that ``Device`` means."""
    return replace(device, **{**figures._asdict(), "bandwidth": figures.bandwidth / speed.READ})


def _key(device: Device, build: str, threads: int) -> str:
    own = threads if device.kind == "cpu" else 0
    facts = (device.name, device.description, device.kind, device.memory_total, build, own)
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]
