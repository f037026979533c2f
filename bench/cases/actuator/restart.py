"""What the first command costs after the service was started anew, as against one when all is warm."""

from __future__ import annotations

import contextlib
import functools
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

from bench import commands, service
from bench.case import Bar, Case, Contender, Figure, Prepared, Sample, Wanted
from bench.service import Service

WARM, PREWARMED, LOADED = "warm", "prewarmed", "loaded"
_AGAIN = 5


async def _command(started: Service, utterance: str) -> float:
    began = time.perf_counter()
    await started.client.interpret(utterance, str(started.model.path))
    return (time.perf_counter() - began) * 1e3


@contextlib.asynccontextmanager
async def _prepare(wanted: Wanted) -> AsyncIterator[Prepared]:
    """Learn once; each sample then starts a service of its own, which finds what was kept."""
    count = wanted.parameters["utterances"]
    with tempfile.TemporaryDirectory(prefix="kylin-gguf-bench-") as scratch:
        flags = {"cache_dir": Path(scratch), "threads": wanted.threads}
        async with service.running(wanted.model, **flags) as first:
            await first.client.load(str(wanted.model.path), learn=True)

        async def sample(number: int, kind: str) -> Sample:
            async with service.running(wanted.model, **flags) as started:
                if kind == LOADED:
                    await started.loaded()
                else:
                    await started.client.prewarm(str(wanted.model.path))
                first, *others = (row.utterance for row in commands.part(number, count))
                took = await _command(started, first)
                if kind == WARM:
                    for utterance in others:
                        await _command(started, utterance)
                    took = statistics.median([await _command(started, first) for _ in range(_AGAIN)])
            return Sample({"command": took})

        contenders = {
            kind: Contender(functools.partial(sample, kind=kind)) for kind in (WARM, PREWARMED, LOADED)
        }
        yield Prepared(contenders, {})


CASE = Case(
    name="actuator/restart",
    measures="the first command of a service that was just started and prewarmed (as on a wake word), or had "
    "only loaded the model, beside the same utterance when some others were answered before it",
    figures=(Figure("command", "ms", "lower", "from utterance to command, over the bus"),),
    bars=(Bar("command", 2.0, WARM, of=PREWARMED), Bar("command", 2.0, WARM, of=LOADED)),
    parameters={"utterances": 20},
    prepare=_prepare,
    warm_up=False,
)
