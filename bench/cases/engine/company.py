"""How fast one client gets its tokens while other programs keep the cores busy."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from bench import processes
from bench.case import OURS, Bar, Case, Contender, Figure, Prepared, Sample, Wanted
from bench.chat import Engine, check_tokens, facts, user
from bench.contenders import CONTEXT_LENGTH, ours
from bench.peers import llama_bench
from bench.prompts import STORY

_SPINNING, _SLEEPING, _ALONE = "llama-bench", "llama-bench, passive", "llama-bench, 1 thread"


@contextlib.asynccontextmanager
async def _company(count: int) -> AsyncIterator[None]:
    """Keep ``count`` programs busy."""
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(count):
            command = [sys.executable, "-c", "while True: pass"]
            await stack.enter_async_context(processes.child(command, log=Path("/dev/null")))
        yield


@contextlib.asynccontextmanager
async def _prepare(wanted: Wanted) -> AsyncIterator[Prepared]:
    tokens, busy = wanted.parameters["tokens"], wanted.parameters["busy"]
    async with ours(wanted) as mine:
        depth = (await mine.chat(user(STORY), 1)).prompt_tokens

        async def sample(engine: Engine) -> Sample:
            async with _company(busy):
                reply = await engine.chat(user(STORY), tokens + 1)
            check_tokens(reply, completion=tokens + 1)
            return Sample({"decode": reply.decode_tokens_per_s}, facts(reply))

        def bare(threads: int, **environment: str) -> Contender:
            async def take(_: int) -> Sample:
                async with _company(busy):
                    rate = await llama_bench.decode_tokens_per_s(
                        wanted.model, threads, tokens, depth, environment
                    )
                return Sample({"decode": rate}, {"prompt_tokens": depth, "completion_tokens": tokens})

            return Contender(take)

        contenders = {
            OURS: Contender(lambda _: sample(mine), mine.processes),
            _SPINNING: bare(mine.threads),
            _SLEEPING: bare(mine.threads, OMP_WAIT_POLICY="passive"),
            _ALONE: bare(1),
        }
        conditions = {"threads": mine.threads, "context_length": CONTEXT_LENGTH, "depth": depth}
        yield Prepared(contenders, conditions)


CASE = Case(
    name="engine/company",
    measures="one client's answer while programs that never wait (busy) share the cores",
    figures=(Figure("decode", "tokens/s", "higher", "speed after the first token, as the engine counts it"),),
    bars=tuple(Bar("decode", 0.95, peer) for peer in (_SPINNING, _SLEEPING, _ALONE)),
    parameters={"tokens": 128, "busy": 1},
    prepare=_prepare,
)
