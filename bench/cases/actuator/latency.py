"""How long an utterance takes to become a command, beside llama-server with a schema and a cached prompt."""

from __future__ import annotations

import contextlib
import json
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from bench import commands
from bench.case import OURS, Bar, Case, Contender, Figure, Prepared, Sample, Wanted
from bench.contenders import CONTEXT_LENGTH, SERVER, ours_and_server
from kylin_gguf.actuator.shipped import load_commands
from kylin_gguf.records import Message

_NONE = "none"
_ANSWER_TOKENS = 64
_RULES = (
    "You translate what a computer user says, in Chinese or English, into one desktop command. Answer with the "
    f'JSON object {{"command": "", "value": ""}}; the command is "{_NONE}" for everything that none of these '
    "does:\n"
)
Answer = Callable[[str], Awaitable[str | None]]
"""Gets an utterance; returns the entry of the command table, None for none."""


def _prompt_and_schema() -> tuple[str, str, dict[str, str]]:
    """Return what llama-server is told, the schema of its answer, and the entry of each command."""
    listed = load_commands(()).commands
    prompt = _RULES + "\n".join(
        f"{' '.join((c.id, *(a.signature() for a in c.arguments)))}: {c.description['zh']}" for c in listed
    )
    schema = {
        "type": "object",
        "properties": {
            "command": {"enum": [*(c.id for c in listed), _NONE]},
            "value": {"type": "string", "maxLength": 16},
        },
        "required": ["command", "value"],
        "additionalProperties": False,
    }
    return prompt, json.dumps(schema), {c.id: c.kylin_name for c in listed}


async def _measure(answer: Answer, number: int, count: int) -> Sample:
    times, right = [], 0
    for row in commands.part(number, count):
        began = time.perf_counter()
        found = await answer(row.utterance)
        times.append((time.perf_counter() - began) * 1e3)
        right += found == row.name
    figures = {
        "p50": statistics.median(times),
        "p95": statistics.quantiles(times, n=20)[-1],
        "right": 100 * right / count,
    }
    return Sample(figures, {"utterances": count})


@contextlib.asynccontextmanager
async def _prepare(wanted: Wanted) -> AsyncIterator[Prepared]:
    count = wanted.parameters["utterances"]
    prompt, schema, entries = _prompt_and_schema()
    async with ours_and_server(wanted) as (mine, theirs):
        model = str(wanted.model.path)
        await mine.client.load(model, learn=True)

        async def interpret(utterance: str) -> str | None:
            found = await mine.client.interpret(utterance, model)
            return found["kylin"]["name"] if found["kylin"] else None

        async def ask(utterance: str) -> str | None:
            messages = (Message("system", prompt), Message("user", utterance))
            reply = await theirs.chat(messages, _ANSWER_TOKENS, json_schema=schema)
            return entries.get(json.loads(reply.text)["command"])

        contenders = {
            OURS: Contender(lambda number: _measure(interpret, number, count), mine.processes),
            SERVER: Contender(lambda number: _measure(ask, number, count), theirs.processes),
        }
        yield Prepared(contenders, {"threads": mine.threads, "context_length": CONTEXT_LENGTH})


CASE = Case(
    name="actuator/latency",
    measures="utterances of bench/data/commands-check.jsonl, one after the other, each new to both; "
    "llama-server has the 80 commands in a prompt that stays cached, and a JSON schema",
    figures=(
        Figure("p50", "ms", "lower", "median time from utterance to command, over the bus or HTTP"),
        Figure("p95", "ms", "lower", "the time that 19 of 20 stay below"),
        Figure("right", "%", "higher", "utterances with the right command, or rightly with none"),
    ),
    bars=(Bar("p50", 0.2, SERVER),),
    parameters={"utterances": 20},
    prepare=_prepare,
)
