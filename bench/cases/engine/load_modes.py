"""What mapped weights, and weights that are read and repacked, cost and give, from an empty process on."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator

from bench import service
from bench.case import Case, Contender, Figure, Prepared, Sample, Wanted
from bench.chat import check_tokens, facts, user
from bench.contenders import CONTEXT_LENGTH, SEQUENCES
from bench.processes import resident_bytes
from bench.prompts import STORY, fresh, words_for

MODES = ("instant", "throughput")


async def _sample(wanted: Wanted, mode: str) -> Sample:
    tokens = wanted.parameters["tokens"]
    started = service.running(
        wanted.model,
        load_mode=mode,
        context_length=CONTEXT_LENGTH,
        sequences=SEQUENCES,
        threads=wanted.threads,
    )
    async with started as empty:
        began = time.perf_counter()
        mine = await empty.loaded()
        load_s = time.perf_counter() - began
        first = await mine.chat(user("What is your name?"), 1)
        words = await words_for(mine, tokens)
        prompt = await mine.chat(user(fresh(0, words)), 1)
        check_tokens(prompt, prompt=tokens)
        answer = await mine.chat(user(STORY), wanted.parameters["answer_tokens"] + 1)
        check_tokens(answer, completion=wanted.parameters["answer_tokens"] + 1)
        figures = {
            "load": mine.load_s * 1000,
            "ready": load_s * 1000,
            "first_token": first.first_token_s * 1000,
            "memory": resident_bytes(mine.worker) / (1 << 20),
            "prefill": prompt.prefill_tokens_per_s,
            "decode": answer.decode_tokens_per_s,
        }
    return Sample(figures, facts(answer))


@contextlib.asynccontextmanager
async def _prepare(wanted: Wanted) -> AsyncIterator[Prepared]:
    async with service.running(wanted.model, load_mode=MODES[0], threads=wanted.threads) as probe:
        threads = (await probe.loaded()).threads
    contenders = {mode: _contender(wanted, mode) for mode in MODES}
    yield Prepared(
        contenders, {"threads": threads, "context_length": CONTEXT_LENGTH, "file": "in page cache"}
    )


def _contender(wanted: Wanted, mode: str) -> Contender:
    return Contender(lambda _: _sample(wanted, mode))


CASE = Case(
    name="engine/load-modes",
    measures="a worker from its start: weights mapped as they are (instant), or read and repacked "
    "(throughput); the file is in the page cache",
    figures=(
        Figure("load", "ms", "lower", "the worker's own time for loading"),
        Figure("ready", "ms", "lower", "from the client's Load to its end, planning and process included"),
        Figure("first_token", "ms", "lower", "the first question's time to the first text"),
        Figure(
            "memory", "MiB", "lower", "resident memory of the worker after the answers, mapped file included"
        ),
        Figure("prefill", "tokens/s", "higher", "a prompt of 512 tokens, as the engine counts it"),
        Figure("decode", "tokens/s", "higher", "speed after the first token, as the engine counts it"),
    ),
    bars=(),
    parameters={"tokens": 512, "answer_tokens": 64},
    rounds=5,
    warm_up=False,
    prepare=_prepare,
)
