"""What guessed tokens bring where an answer quotes, and cost where it does not."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from bench.case import OURS, Bar, Case, Figure, Prepared, Sample, Unfair, Wanted
from bench.chat import Engine, facts, user
from bench.contenders import CONTEXT_LENGTH, SEQUENCES, SERVER, contender, ours
from bench.peers import llama_server
from bench.prompts import story
from bench.service import Service

UNGUESSED = "without guesses"
TRIAL_S = 600.0
_LEAST_TOKENS = 32

_QUOTING = """Rename the function to total_price and return the complete code, with no other change:

def compute(items, tax_rate):
    \"\"\"Return what the items cost together, tax included.\"\"\"
    subtotal = 0.0
    for item in items:
        if item.quantity < 0:
            raise ValueError("quantity must not be negative")
        subtotal += item.price * item.quantity
    return round(subtotal * (1.0 + tax_rate), 2)
"""


async def _measured(engine: Service) -> None:
    """Wait until the service's own trial has decided."""
    async with asyncio.timeout(TRIAL_S):
        while (await engine.status())["speculation"]["way"] == "measuring":
            await asyncio.sleep(0.2)


@contextlib.asynccontextmanager
async def _prepare(wanted: Wanted) -> AsyncIterator[Prepared]:
    tokens = wanted.parameters["tokens"]
    async with (
        ours(wanted, speculation="auto") as mine,
        ours(wanted) as plain,
        llama_server.running(
            wanted.model, threads=mine.threads, context_length=CONTEXT_LENGTH, parallel=SEQUENCES
        ) as theirs,
    ):
        await _measured(mine)

        async def sample(engine: Engine, _: int) -> Sample:
            quoting = await engine.chat(user(_QUOTING), tokens)
            if quoting.completion_tokens < _LEAST_TOKENS:
                raise Unfair(f"the answer ended after {quoting.completion_tokens} tokens")
            telling = await engine.chat(user(story("a lighthouse keeper and a storm")), tokens)
            figures = {"quoting": quoting.decode_tokens_per_s, "telling": telling.decode_tokens_per_s}
            return Sample(figures, facts(quoting))

        contenders = {
            OURS: contender(mine, sample),
            UNGUESSED: contender(plain, sample),
            SERVER: contender(theirs, sample),
        }
        conditions = {"threads": mine.threads, "context_length": CONTEXT_LENGTH}
        yield Prepared(contenders, conditions | {"trial": (await mine.status())["speculation"]})


CASE = Case(
    name="engine/speculation",
    measures="code changed in one place, and a story; our service as it decides, and with guesses off",
    figures=(
        Figure("quoting", "tokens/s", "higher", "the changed code, as the engine counts it"),
        Figure("telling", "tokens/s", "higher", "the story, as the engine counts it"),
    ),
    bars=(Bar("quoting", 1.0, UNGUESSED), Bar("quoting", 1.0, SERVER), Bar("telling", 0.98, UNGUESSED)),
    parameters={"tokens": 128},
    prepare=_prepare,
)
