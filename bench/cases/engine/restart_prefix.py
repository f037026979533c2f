"""What a restart of the service costs a conversation that it knew."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from bench.case import Bar, Case, Contender, Figure, Prepared, Sample, Unfair, Wanted
from bench.chat import Reply, facts, user
from bench.contenders import CONTEXT_LENGTH, ours
from bench.prompts import fresh, words_for

COLD, RESTORED = "cold", "restored"
_ANSWER_TOKENS = 32
_NUMBER = 1
_QUESTION = ". Tell me what happens next, in many words."


@contextlib.asynccontextmanager
async def _prepare(wanted: Wanted) -> AsyncIterator[Prepared]:
    """Have one service answer and save what it knows; each sample then starts a service of its own."""
    with tempfile.TemporaryDirectory(prefix="kylin-gguf-bench-") as scratch:
        saved, used = Path(scratch, "saved"), Path(scratch, "used")
        async with ours(wanted) as first:
            words = await words_for(first, wanted.parameters["tokens"], _QUESTION)
            threads = first.threads
        prompt = user(fresh(_NUMBER, words, _QUESTION))
        # A service that has computed nothing else: what is in the cache decides how a prompt is divided into
        # batches, and with that the last bits of the logits, and sooner or later the text.
        async with ours(wanted, cache_dir=saved) as second:
            expected = await second.chat(prompt, _ANSWER_TOKENS)
            await second.client.unload(str(wanted.model.path))

        async def ask(cache: Path | None) -> Reply:
            shutil.rmtree(used, ignore_errors=True)
            if cache:
                shutil.copytree(cache, used)
            async with ours(wanted, cache_dir=used) as started:
                reply = await started.chat(prompt, _ANSWER_TOKENS)
            if reply.text != expected.text:
                raise Unfair(f"another answer than before the restart: {reply.text[:60]!r}")
            return reply

        async def cold(_: int) -> Sample:
            return _sample(await ask(None))

        async def restored(_: int) -> Sample:
            if not saved.exists():
                raise Unfair("the service left nothing in its cache directory")
            reply = await ask(saved)
            if not reply.cached_tokens:
                raise Unfair("nothing was restored: all of the prompt was computed")
            return _sample(reply)

        contenders = {COLD: Contender(cold), RESTORED: Contender(restored)}
        yield Prepared(contenders, {"threads": threads, "context_length": CONTEXT_LENGTH})


def _sample(reply: Reply) -> Sample:
    computed = reply.prompt_tokens - reply.cached_tokens
    figures = {"first_token": reply.first_token_s * 1000, "recomputed": computed / reply.prompt_tokens}
    return Sample(figures, facts(reply))


CASE = Case(
    name="engine/restart-prefix",
    measures="a prompt of 500 tokens to a service that was restarted and has loaded the model; its cache "
    "directory is empty, or as the service before left it",
    figures=(
        Figure("first_token", "ms", "lower", "from the request to the client's first text"),
        Figure("recomputed", "share", "lower", "tokens of the prompt that were computed again"),
    ),
    bars=(Bar("first_token", 0.10, COLD, of=RESTORED),),
    parameters={"tokens": 500},
    rounds=5,
    warm_up=False,
    prepare=_prepare,
)
