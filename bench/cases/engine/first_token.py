"""How long a short question waits for its first text when the model is warm."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from bench.case import Bar, Case, Figure, Prepared, Sample, Wanted
from bench.chat import Engine, check_tokens, facts, user
from bench.contenders import CONTEXT_LENGTH, SERVER, ours_and_server, prepared
from bench.prompts import fresh, words_for

_ANSWER_TOKENS = 8
_QUESTION = ". What comes next?"


@contextlib.asynccontextmanager
async def _prepare(wanted: Wanted) -> AsyncIterator[Prepared]:
    async with ours_and_server(wanted) as (mine, theirs):
        words = await words_for(mine, wanted.parameters["tokens"], _QUESTION)

        async def sample(engine: Engine, number: int) -> Sample:
            reply = await engine.chat(user(fresh(number, words, _QUESTION)), _ANSWER_TOKENS)
            check_tokens(reply, prompt=wanted.parameters["tokens"])
            return Sample({"first_token": reply.first_token_s * 1000}, facts(reply))

        yield prepared(mine, theirs, sample, context_length=CONTEXT_LENGTH)


CASE = Case(
    name="engine/first-token",
    measures="a short question to a warm model, the chat template in the cache and nothing else",
    figures=(Figure("first_token", "ms", "lower", "from the request to the client's first text"),),
    bars=(Bar("first_token", 1.0, SERVER),),
    parameters={"tokens": 64},
    prepare=_prepare,
)
