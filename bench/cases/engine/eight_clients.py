"""How many tokens come out in all when eight clients ask at once."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence

from bench.case import OURS, Bar, Case, Contender, Figure, Prepared, Sample, Unfair, Wanted
from bench.chat import Engine, user
from bench.contenders import CONTEXT_LENGTH, SERVER, ours_and_server
from bench.prompts import TOPICS, story

_LEAST_SHARE = 0.75
"""Of the tokens asked for: with fewer the last clients would run alone for most of the time."""


async def _all_at_once(engines: Sequence[Engine], tokens: int) -> Sample:
    began = time.perf_counter()
    asking = [engine.chat(user(story(topic)), tokens) for engine, topic in zip(engines, TOPICS, strict=True)]
    replies = await asyncio.gather(*asking)
    seconds = time.perf_counter() - began
    counts = [reply.completion_tokens for reply in replies]
    if min(counts) < tokens * _LEAST_SHARE:
        raise Unfair(f"an answer ended after {min(counts)} tokens of {tokens}")
    slowest = max(reply.first_token_s for reply in replies)
    figures = {"throughput": sum(counts) / seconds, "slowest_first_token": slowest * 1000}
    return Sample(figures, {"completion_tokens": counts, "seconds": seconds})


@contextlib.asynccontextmanager
async def _prepare(wanted: Wanted) -> AsyncIterator[Prepared]:
    tokens, clients = wanted.parameters["tokens"], len(TOPICS)
    # unified=False: a share for each slot is what the server chooses when --parallel is given.
    both = ours_and_server(wanted, sequences=clients, unified=False)
    async with both as (mine, theirs), contextlib.AsyncExitStack() as stack:
        desktop = [await stack.enter_async_context(mine.another_client()) for _ in range(clients)]
        contenders = {
            OURS: Contender(lambda _: _all_at_once(desktop, tokens), mine.processes),
            SERVER: Contender(lambda _: _all_at_once([theirs] * clients, tokens), theirs.processes),
        }
        conditions = {"threads": mine.threads, "context_length": CONTEXT_LENGTH, "clients": clients}
        yield Prepared(contenders, conditions)


CASE = Case(
    name="engine/eight-clients",
    measures="eight clients that ask at once, each a question of its own, prompts in the cache",
    figures=(
        Figure(
            "throughput", "tokens/s", "higher", "tokens of all answers over the time to the last one's end"
        ),
        Figure("slowest_first_token", "ms", "lower", "the longest wait of the eight for the first text"),
    ),
    bars=(Bar("throughput", 1.0, SERVER),),
    parameters={"tokens": 128},
    prepare=_prepare,
)
