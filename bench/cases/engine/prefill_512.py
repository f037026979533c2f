"""How fast a prompt that no cache has seen is computed."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from bench.case import Bar, Case, Figure, Prepared, Sample, Wanted
from bench.chat import Engine, check_tokens, facts, user
from bench.contenders import CONTEXT_LENGTH, SERVER, ours_and_server, prepared
from bench.prompts import fresh, words_for


@contextlib.asynccontextmanager
async def _prepare(wanted: Wanted) -> AsyncIterator[Prepared]:
    tokens = wanted.parameters["tokens"]
    async with ours_and_server(wanted) as (mine, theirs):
        words = await words_for(mine, tokens)

        async def sample(engine: Engine, number: int) -> Sample:
            reply = await engine.chat(user(fresh(number, words)), 1)
            check_tokens(reply, prompt=tokens)
            # What the chat template puts before every prompt is in the cache.
            computed = reply.prompt_tokens - reply.cached_tokens
            figures = {"seen": computed / reply.first_token_s, "prefill": reply.prefill_tokens_per_s}
            return Sample(figures, facts(reply))

        yield prepared(mine, theirs, sample, context_length=CONTEXT_LENGTH)


CASE = Case(
    name="engine/prefill-512",
    measures="a prompt of 512 tokens that no cache has seen",
    figures=(
        Figure("seen", "tokens/s", "higher", "tokens computed over the client's time to the first text"),
        Figure("prefill", "tokens/s", "higher", "as the engine counts it"),
    ),
    bars=(Bar("seen", 1.0, SERVER), Bar("prefill", 1.0, SERVER)),
    parameters={"tokens": 512},
    prepare=_prepare,
)
