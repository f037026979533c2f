"""Which rung of the ladder worked for a model on these devices, for as long as that is likely to hold."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

from kylin_gguf.offload.machine import Machine
from kylin_gguf.offload.plan import Request

log = logging.getLogger(__name__)

_VALID_SECONDS = 24 * 3600
"""A game that had the GPU's memory yesterday is no reason to leave it idle today."""


class Remembered:
    """Numbers of rungs, in one small file each below ``directory``."""

    def __init__(self, directory: Path, now: Callable[[], float] = time.time) -> None:
        self._directory, self._now = directory, now

    def rung(self, key: str) -> int:
        """Return the rung to begin with: 0, the first, where none is remembered."""
        try:
            found = json.loads((self._directory / f"{key}.json").read_text(encoding="utf-8"))
            number, until = int(found["rung"]), float(found["until"])
        except (OSError, ValueError, KeyError, TypeError):
            return 0
        return number if number > 0 and self._now() < until else 0

    def keep(self, key: str, rung: int) -> None:
        """Remember that ``rung`` worked. What cannot be written is found out again the next time."""
        path = self._directory / f"{key}.json"
        partial = path.with_suffix(f".{os.getpid()}")
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            content = {"rung": rung, "until": self._now() + _VALID_SECONDS}
            partial.write_text(json.dumps(content), encoding="utf-8")
            partial.replace(path)
        except OSError as error:
            log.warning("cannot remember what worked: %s", error)


def key(path: Path, machine: Machine, request: Request) -> str:
    """Return what a rung is remembered under: the model's file, llama.cpp's build, each GPU with its memory,
    and what was wanted. ggml tells no driver's version, so a new one is noticed when the memory expires."""
    try:
        status = path.stat()
        file = (str(path), status.st_size, status.st_mtime_ns)
    except OSError:
        file = (str(path), 0, 0)
    gpus = [(gpu.name, gpu.description, gpu.memory_total) for gpu in machine.accelerators]
    return hashlib.sha256(repr((file, machine.build, gpus, request)).encode()).hexdigest()[:16]
