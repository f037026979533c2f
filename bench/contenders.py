"""Starts what most cases compare: our service, and llama-server beside it with the same model and threads."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from bench import service
from bench.case import OURS, Contender, Prepared, Sample, Wanted
from bench.chat import Engine
from bench.peers import llama_server
from bench.peers.llama_server import LlamaServer
from bench.service import Service

SERVER = "llama-server"
CONTEXT_LENGTH = 4096
SEQUENCES = 4

SampleOf = Callable[[Engine, int], Awaitable[Sample]]
"""Takes a sample of whatever engine it is given, for a round: the same work for every contender."""


@contextlib.asynccontextmanager
async def ours(wanted: Wanted, **settings: object) -> AsyncIterator[Service]:
    """Start our service with the model loaded; ``settings`` as in ``service.running``."""
    flags = {"context_length": CONTEXT_LENGTH, "sequences": SEQUENCES, "threads": wanted.threads, **settings}
    async with service.running(wanted.model, **flags) as started:
        yield await started.loaded()


@contextlib.asynccontextmanager
async def ours_and_server(
    wanted: Wanted, *, context_length: int = CONTEXT_LENGTH, sequences: int = SEQUENCES, unified: bool = True
) -> AsyncIterator[tuple[Service, LlamaServer]]:
    """Start both; ``unified`` is llama-server's, ours always shares one KV cache."""
    async with (
        ours(wanted, context_length=context_length, sequences=sequences) as mine,
        llama_server.running(
            wanted.model,
            threads=mine.threads,
            context_length=context_length,
            parallel=sequences,
            unified=unified,
        ) as theirs,
    ):
        yield mine, theirs


def contender(engine: Engine, sample: SampleOf) -> Contender:
    """Return ``engine`` as a contender that is measured by ``sample``."""
    return Contender(lambda number: sample(engine, number), engine.processes)


def prepared(mine: Service, theirs: LlamaServer, sample: SampleOf, **conditions: Any) -> Prepared:
    """Return both, measured by the same function."""
    contenders = {OURS: contender(mine, sample), SERVER: contender(theirs, sample)}
    return Prepared(contenders, {"threads": mine.threads, **conditions})
