"""How far a stream stumbles when somebody else's long prompt comes in."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
from collections.abc import AsyncIterator

from bench.case import Bar, Case, Figure, Prepared, Sample, Unfair, Wanted
from bench.chat import Engine, Reply, check_tokens, user
from bench.contenders import CONTEXT_LENGTH, ours_and_server, prepared
from bench.prompts import STORY, fresh, words_for

_SOLO_TOKENS = 64
_SOLO_SECONDS = 0.5
"""How long the stream runs before the other prompt comes."""


@contextlib.asynccontextmanager
async def _prepare(wanted: Wanted) -> AsyncIterator[Prepared]:
    async with ours_and_server(wanted) as (mine, theirs):
        words = await words_for(mine, wanted.parameters["tokens"])

        async def sample(engine: Engine, number: int) -> Sample:
            solo = await engine.chat(user(STORY), _SOLO_TOKENS)
            async with _streaming(engine, wanted.parameters["stream_tokens"]) as stream:
                await asyncio.sleep(_SOLO_SECONDS)
                intruder = await engine.chat(user(fresh(number, words)), 1)
                check_tokens(intruder, prompt=wanted.parameters["tokens"])
                return _judge(solo, await stream, intruder)

        yield prepared(mine, theirs, sample, context_length=CONTEXT_LENGTH)


@contextlib.asynccontextmanager
async def _streaming(engine: Engine, tokens: int) -> AsyncIterator[asyncio.Task[Reply]]:
    """Begin a stream; the block starts when its first text has come, and nothing streams after it."""
    begun = asyncio.Event()
    stream = asyncio.create_task(engine.chat(user(STORY), tokens, begun))
    waiting = asyncio.create_task(begun.wait())
    try:
        await asyncio.wait([stream, waiting], return_when=asyncio.FIRST_COMPLETED)
        yield stream
    finally:
        for task in (stream, waiting):
            task.cancel()
        await asyncio.gather(stream, waiting, return_exceptions=True)


def _judge(solo: Reply, stream: Reply, intruder: Reply) -> Sample:
    came, computed = intruder.asked, intruder.arrivals[0]
    # An engine that keeps the stream's pace may finish it before the prompt: it was in company to its end.
    gaps = stream.gaps(came, computed)
    if not gaps:
        raise Unfair(f"the stream ended ({stream.reason}) before the long prompt came")
    token_s, seen_s = 1 / solo.decode_tokens_per_s, max(gaps)
    # llama-server does not say what its longest gap was, but sends each token by itself.
    longest_s = seen_s if stream.longest_gap_s is None else stream.longest_gap_s
    figures = {
        "stretch": longest_s / token_s,
        "seen_gap": seen_s * 1000,
        "seen_stretch": seen_s / statistics.median(solo.gaps(solo.asked, solo.arrivals[-1])),
        "prompt": (computed - came) * 1000,
    }
    together = sum(came < when < computed for when in stream.arrivals)
    done = {"stream_tokens": stream.completion_tokens, "pieces_together": together}
    return Sample(figures, {"solo_token_ms": token_s * 1000, **done})


CASE = Case(
    name="engine/steady-stream",
    measures="one client streams while another's prompt of 2,000 tokens is computed",
    figures=(
        Figure(
            "stretch", "times", "lower", "the stream's longest time between two tokens over its usual one"
        ),
        Figure("seen_stretch", "times", "lower", "the same between pieces of text, as the client got them"),
        Figure("seen_gap", "ms", "lower", "the longest time between two pieces of text"),
        Figure("prompt", "ms", "lower", "the other client's time to the first text"),
    ),
    bars=(Bar("stretch", 3.0), Bar("seen_stretch", 3.0)),
    parameters={"tokens": 2000, "stream_tokens": 512},
    rounds=5,
    prepare=_prepare,
)
