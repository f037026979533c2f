"""How soon a long prompt that nobody wants any more stops costing."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

from bench.case import OURS, Bar, Case, Contender, Figure, Prepared, Sample, Unfair, Wanted
from bench.contenders import ours
from bench.prompts import fresh, words_for

CONTEXT_LENGTH = 8192
_DELAYS_S = (0.4, 0.55, 0.7, 0.85, 1.0)
"""Taken in turn, so that the cancel meets different moments of a decode step."""


@contextlib.asynccontextmanager
async def _prepare(wanted: Wanted) -> AsyncIterator[Prepared]:
    async with ours(wanted, context_length=CONTEXT_LENGTH) as mine:
        words = await words_for(mine, wanted.parameters["tokens"])

        async def sample(number: int) -> Sample:
            async with mine.session() as session:
                answer = await session.generate(fresh(number, words), temperature=0.0, max_tokens=64)
                delay = _DELAYS_S[number % len(_DELAYS_S)]
                await asyncio.sleep(delay)
                asked = time.perf_counter()
                await answer.cancel()
                frames = [frame async for frame in answer]
                ended = time.perf_counter()
            if frames[-1]["reason"] != "cancelled" or any(frame["type"] == "text" for frame in frames):
                raise Unfair(f"the prompt was computed within {delay} s: nothing was left to cancel")
            return Sample({"cancel": (ended - asked) * 1000}, {"after_s": delay})

        contenders = {OURS: Contender(sample, mine.processes)}
        yield Prepared(contenders, {"threads": mine.threads, "context_length": CONTEXT_LENGTH})


CASE = Case(
    name="engine/cancel",
    measures="a cancel while a prompt of 4,000 tokens is computed",
    figures=(Figure("cancel", "ms", "lower", "from the call of Cancel to the end frame"),),
    bars=(Bar("cancel", 300.0),),
    parameters={"tokens": 4000},
    rounds=10,
    prepare=_prepare,
)
