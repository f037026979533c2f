"""Whether thousands of requests leave anything behind in memory."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import AsyncIterator

from bench.case import OURS, Bar, Case, Contender, Figure, Prepared, Sample, Wanted
from bench.chat import user
from bench.contenders import CONTEXT_LENGTH, ours
from bench.processes import resident_bytes
from bench.prompts import TOPICS, fresh, story
from bench.service import Service

SETTLED = 200
"""Requests after which caches are full and memory should stay as it is."""
_EVERY = 10
_WINDOW = 5
_GRAMMAR = 'root ::= "yes" | "no"'
_UTTERANCES = ("turn off bluetooth", "把音量调到百分之四十", "what a tiring day", "open the terminal")


async def _ask(mine: Service, number: int) -> None:
    """Send one request of a mixture: new prompts, repeated ones, commands, grammars, cancels."""
    match number % 5:
        case 0:
            await mine.chat(user(fresh(number % 10_000, 40 + number % 160)), 8)
        case 1:
            await mine.chat(user(story(TOPICS[number // 5 % len(TOPICS)])), 16)
        case 2:
            await mine.client.interpret(_UTTERANCES[number // 5 % len(_UTTERANCES)], str(mine.model.path))
        case 3:
            await mine.chat(user(f"Is {number} an even number? Answer yes or no."), 4, grammar=_GRAMMAR)
        case _:
            await _cancel_early(mine, number)


async def _cancel_early(mine: Service, number: int) -> None:
    async with mine.session() as session:
        answer = await session.generate(story(TOPICS[number // 5 % len(TOPICS)]), max_tokens=256)
        async for frame in answer:
            if frame["type"] == "text":
                await answer.cancel()


def growth(series: list[float], settled: int) -> float:
    """Return by how many percent ``series`` ends above its index ``settled``; medians of a few."""
    before = statistics.median(series[settled : settled + _WINDOW])
    return (statistics.median(series[-_WINDOW:]) / before - 1) * 100


async def _soak(mine: Service, requests: int) -> Sample:
    series: dict[str, list[float]] = {"requests": [], "worker_mib": [], "daemon_mib": []}
    for number in range(requests + 1):
        if number % _EVERY == 0:
            series["requests"].append(number)
            series["worker_mib"].append(resident_bytes(mine.worker) / (1 << 20))
            series["daemon_mib"].append(resident_bytes(mine.daemon) / (1 << 20))
        await _ask(mine, number)
    settled = SETTLED // _EVERY
    figures = {name: growth(series[f"{name}_mib"], settled) for name in ("worker", "daemon")}
    return Sample(figures, {"requests": requests}, series)


@contextlib.asynccontextmanager
async def _prepare(wanted: Wanted) -> AsyncIterator[Prepared]:
    requests = wanted.parameters["requests"]
    least = SETTLED + 2 * _WINDOW * _EVERY
    if requests < least:
        raise SystemExit(
            f"requests={requests} is too few: growth is counted after {SETTLED}, from {least} on"
        )
    async with ours(wanted) as mine:
        contenders = {OURS: Contender(lambda _: _soak(mine, requests), mine.processes)}
        yield Prepared(contenders, {"threads": mine.threads, "context_length": CONTEXT_LENGTH})


CASE = Case(
    name="engine/soak",
    measures="resident memory over thousands of mixed requests: chats, commands, grammars, cancelled answers",
    figures=(
        Figure("worker", "%", "lower", f"growth of the worker from request {SETTLED} to the end"),
        Figure("daemon", "%", "lower", f"growth of the service from request {SETTLED} to the end"),
    ),
    bars=(Bar("worker", 3.0), Bar("daemon", 3.0)),
    parameters={"requests": 2000},
    rounds=1,
    least_rounds=1,
    warm_up=False,
    prepare=_prepare,
)
