"""How fast one client gets its tokens, against the bare decode loop and what else serves models."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from bench.case import OURS, Bar, Case, Contender, Figure, Prepared, Sample, Wanted
from bench.chat import Engine, check_tokens, facts, user
from bench.contenders import CONTEXT_LENGTH, SERVER, contender, ours_and_server
from bench.peers import high_level, llama_bench
from bench.prompts import STORY

BARE, CLASS = "llama-bench", "llama_cpp.Llama"


@contextlib.asynccontextmanager
async def _prepare(wanted: Wanted) -> AsyncIterator[Prepared]:
    tokens = wanted.parameters["tokens"]
    async with (
        ours_and_server(wanted) as (mine, theirs),
        high_level.running(wanted.model, threads=mine.threads, context_length=CONTEXT_LENGTH) as bindings,
    ):
        depth = (await mine.chat(user(STORY), 1)).prompt_tokens

        async def sample(engine: Engine, _: int) -> Sample:
            # The first token is prefill's.
            reply = await engine.chat(user(STORY), tokens + 1)
            check_tokens(reply, completion=tokens + 1)
            figures = {"decode": reply.decode_tokens_per_s, "seen": reply.seen_tokens_per_s}
            if reply.energy_j is not None:
                figures["energy"] = reply.energy_j / reply.completion_tokens
            return Sample(figures, facts(reply))

        async def bare(_: int) -> Sample:
            rate = await llama_bench.decode_tokens_per_s(wanted.model, mine.threads, tokens, depth)
            return Sample({"decode": rate}, {"prompt_tokens": depth, "completion_tokens": tokens})

        contenders = {
            OURS: contender(mine, sample),
            BARE: Contender(bare),
            SERVER: contender(theirs, sample),
            CLASS: contender(bindings, sample),
        }
        conditions = {"threads": mine.threads, "context_length": CONTEXT_LENGTH, "depth": depth}
        yield Prepared(contenders, conditions)


CASE = Case(
    name="engine/decode",
    measures="one client's answer after a short prompt, every token of it read",
    figures=(
        Figure("decode", "tokens/s", "higher", "speed after the first token, as the engine counts it"),
        Figure("seen", "tokens/s", "higher", "the same, between the first and the last text the client got"),
        Figure("energy", "J/token", "lower", "what the processor packages took, where that may be read"),
    ),
    bars=(
        Bar("decode", 0.98, BARE),
        Bar("decode", 1.0, SERVER),
        Bar("seen", 1.0, SERVER),
    ),
    parameters={"tokens": 96},
    prepare=_prepare,
)
