"""Records and contenders that need no engine."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from bench.case import OURS, Bar, Case, Contender, Dropped, Figure, Prepared, Sample, Wanted
from bench.record import Record
from bench.report import Key
from kylin_gguf.records import InstalledModel

PEER = "llama-server"
FIGURES = (
    Figure("decode", "tokens/s", "higher", "speed"),
    Figure("first_token", "ms", "lower", "wait"),
)
BARS = (Bar("decode", 1.0, PEER), Bar("first_token", 300.0))
MACHINE = {
    "processor": "Some CPU @ 2.0",
    "cores": 2,
    "memory_bytes": 8 << 30,
    "kernel": "6.6",
    "load_average_before": 0.1,
    "busy_before": 0.02,
}


@pytest.fixture
def wanted() -> Wanted:
    return Wanted(InstalledModel("m", Path("/m.gguf"), 1, writable=False), {})


def case(prepared: Prepared, **changes: Any) -> Case:
    """A case around ready contenders."""

    @contextlib.asynccontextmanager
    async def prepare(_: Wanted) -> AsyncIterator[Prepared]:
        yield prepared

    given: dict[str, Any] = {"figures": FIGURES, "bars": BARS, "prepare": prepare, **changes}
    return Case(name="engine/fake", measures="nothing real", **given)


def contender(values: Sequence[float | Exception], calls: list[int], **rest: Any) -> Contender:
    """A contender whose samples are ``values``, one a round, the warm-up's first; notes the rounds."""

    async def sample(number: int) -> Sample:
        calls.append(number)
        value = values[number]
        if isinstance(value, Exception):
            raise value
        return Sample({"decode": value}, {"tokens": 3})

    return Contender(sample, **rest)


def record(
    ours: Sequence[float | None], peer: Sequence[float], figure: str = "decode", **changes: Any
) -> Record:
    """A record with one figure; None is a dropped sample."""

    def outcome(value: float | None) -> Sample | Dropped:
        return Dropped("too short") if value is None else Sample({figure: value})

    fields: dict[str, Any] = {
        "case": "engine/fake",
        "measures": "nothing real",
        "figures": FIGURES,
        "bars": BARS,
        "taken": "2026-11-25T10:00:00Z",
        "machine": MACHINE,
        "versions": {"kylin-gguf-engine": "abc", "llama.cpp": "1"},
        "model": {"file": "m.gguf", "size": 1, "sha256": "00"},
        "conditions": {"threads": 2, "parameters": {"tokens": 4}, "least_rounds": 5},
        "rounds": tuple(
            {OURS: outcome(mine), PEER: outcome(theirs)} for mine, theirs in zip(ours, peer, strict=True)
        ),
    }
    return Record(**{**fields, **changes})


def key(found: Record) -> Mapping[Key, Record]:
    """The record as ``report.latest`` would give it."""
    return {("some-cpu", found.case, "m.gguf", "tokens 4"): found}
