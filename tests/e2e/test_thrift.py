"""Choosing threads by energy with a real model, and a meter whose counter a test advances."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kylin_gguf import config, native
from kylin_gguf.energy import EnergyMeter
from kylin_gguf.engine import thrift
from kylin_gguf.engine.threads import Threads
from kylin_gguf.pool import EnginePool
from kylin_gguf.records import InstalledModel, Placement, Power

native.load(config.load())

from kylin_gguf.engine.context import Context  # noqa: E402 - it imports the bindings, which need the libraries
from kylin_gguf.engine.model import LogTail, Model  # noqa: E402

pytestmark = pytest.mark.native

WATTS = {1: 5.0, 2: 100.0}
"""Of a package by threads: as far apart as no real one's, so that what else runs here decides nothing."""


class Nobody:
    """No other program."""

    def used(self) -> float:
        return 0.0

    def running(self, own: int) -> int:
        return 0


class Package:
    """A package's meter that counts as fast as ``context``'s threads make it."""

    def __init__(self, directory: Path) -> None:
        self._zone = directory / "intel-rapl:0"
        self._zone.mkdir(parents=True)
        (self._zone / "name").write_text("package-0\n")
        (self._zone / "max_energy_range_uj").write_text("10000000\n")
        self._count = 9_000_000.0  # it wraps within a second
        self._write()

    def _write(self) -> None:
        partial = self._zone / "partial"
        partial.write_text(f"{int(self._count) % 10_000_000}\n")
        partial.replace(self._zone / "energy_uj")

    @contextmanager
    def metering(self, context: Context) -> Iterator[None]:
        stopped = threading.Event()

        def count() -> None:
            before = time.monotonic()
            while not stopped.wait(0.001):
                now = time.monotonic()
                self._count += WATTS[context.threads] * (now - before) * 1e6
                before = now
                self._write()

        thread = threading.Thread(target=count)
        thread.start()
        try:
            yield
        finally:
            stopped.set()
            thread.join()


def test_an_answer_comes_to_the_threads_that_take_the_fewest_joules(
    model: InstalledModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thrift, "FLOOR", 0.01)  # on a busy machine one thread may be slow
    package = Package(tmp_path)
    placement = Placement(gpu_layers=0, context_length=512, threads=2, sequences=1, mode="instant")
    tail = LogTail()
    loaded = Model(model.path, placement, tail, lambda _: None)
    context = Context(loaded, placement, tail)
    try:
        context._threads = Threads(2, 2, Nobody())  # whatever else runs here
        context.save_energy(EnergyMeter(tmp_path))
        with package.metering(context):
            answer_until(context, lambda: context.saving == "found")
            assert decode(context, 0) == 1
            context.save_time()
            assert decode(context, 1) == 2
    finally:
        context.close()
        loaded.close()


def decode(context: Context, position: int) -> int:
    """Decode one token; return how many threads did it."""
    batch = context.new_batch()
    batch.add(1, position, 0, logits=True)
    context.decode(batch)
    return context.threads


def answer_until(context: Context, done: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not done():
        assert time.monotonic() < end, "it does not come to an end"
        for position in range(100):
            decode(context, position)
        context.truncate(0, 0)


async def test_a_worker_is_told_and_tells_how_far_it_is(model: InstalledModel, tmp_path: Path) -> None:
    """Where nothing measures energy it says so, and nothing changes."""
    engines = EnginePool(config.load({"context_length": 512, "cache_dir": str(tmp_path)}))
    try:
        engine = await engines.acquire(model)
        assert (await engine.activity()).saving == "off"
        engines.heed_power(Power(on_battery=True))
        told = await engine.activity()
        assert told.saving in ("measuring", "unmeasured")
        assert (told.saving == "unmeasured") == (told.energy_j == 0.0 or engine.placement.threads == 1)
        engines.heed_power(Power(on_battery=False))
        assert (await engine.activity()).saving == "off"
    finally:
        await engines.close()
