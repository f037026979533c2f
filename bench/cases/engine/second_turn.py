"""What the second question of a long conversation costs."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from bench.case import Bar, Case, Figure, Prepared, Sample, Wanted
from bench.chat import Engine, check_tokens, facts, user
from bench.contenders import CONTEXT_LENGTH, SERVER, ours_and_server, prepared
from bench.prompts import fresh, words_for
from kylin_gguf.records import Message

_ANSWER_TOKENS = 64
_QUESTION = ". Tell me what happens next, in many words."


@contextlib.asynccontextmanager
async def _prepare(wanted: Wanted) -> AsyncIterator[Prepared]:
    first_tokens = wanted.parameters["tokens"] - _ANSWER_TOKENS
    async with ours_and_server(wanted) as (mine, theirs):
        words = await words_for(mine, first_tokens, _QUESTION)

        async def sample(engine: Engine, number: int) -> Sample:
            question = user(fresh(number, words, _QUESTION))
            first = await engine.chat(question, _ANSWER_TOKENS)
            check_tokens(first, prompt=first_tokens)
            said = [*question, Message("assistant", first.text)]
            second = await engine.chat([*said, *user("And after that?")], _ANSWER_TOKENS)
            computed = second.prompt_tokens - second.cached_tokens
            figures = {
                "recomputed": computed / second.prompt_tokens,
                "first_token": second.first_token_s * 1000,
                "first_turn": first.first_token_s * 1000,
            }
            return Sample(figures, facts(second))

        yield prepared(mine, theirs, sample, context_length=CONTEXT_LENGTH)


CASE = Case(
    name="engine/second-turn",
    measures="the second question of a conversation of 1,500 tokens",
    figures=(
        Figure(
            "recomputed", "share", "lower", "tokens of the second prompt that were computed again or anew"
        ),
        Figure("first_token", "ms", "lower", "the second question's time to the first text"),
        Figure("first_turn", "ms", "lower", "the first question's, when nothing was cached"),
    ),
    bars=(Bar("recomputed", 0.05), Bar("first_token", 1.0, SERVER)),
    parameters={"tokens": 1500},
    prepare=_prepare,
)
