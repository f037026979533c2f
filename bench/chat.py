"""What cases ask of every engine, and what its reader saw."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

from bench.case import Unfair
from kylin_gguf.records import Message


@dataclass(frozen=True)
class Reply:
    """One streamed answer, timed by its reader; times in seconds of ``time.perf_counter``.

    ``arrivals`` has one time for each piece of text: a frame of ours, a chunk of a peer's. The two rates are
    the engine's own word for it, in tokens a second, 0 where it has none; ``longest_gap_s`` likewise is the
    longest time between two tokens as the engine counts it.
    """

    asked: float
    arrivals: tuple[float, ...]
    text: str
    reason: str
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    prefill_tokens_per_s: float
    decode_tokens_per_s: float
    longest_gap_s: float | None = None
    energy_j: float | None = None
    """What the processor packages took for it; None where the engine does not tell."""

    @property
    def first_token_s(self) -> float:
        """Seconds from the request to the first text."""
        return self.arrivals[0] - self.asked

    @property
    def seen_tokens_per_s(self) -> float:
        """Decode speed as the reader sees it. The first token is prefill's."""
        return (self.completion_tokens - 1) / (self.arrivals[-1] - self.arrivals[0])

    def gaps(self, begin: float, end: float) -> list[float]:
        """Return the seconds between pieces of text, for gaps that touch the time from begin to end."""
        return [after - before for before, after in pairwise(self.arrivals) if after > begin and before < end]


class Engine(Protocol):
    """Something that answers a conversation, greedily, on a stream."""

    def processes(self) -> Iterable[int]:
        """Return the processes that do its work."""

    async def chat(
        self, messages: Sequence[Message], max_tokens: int, begun: asyncio.Event | None = None
    ) -> Reply:
        """Answer the last of ``messages``; set ``begun`` at the first text.

        Raises:
            Unfair: it gave no text.
        """


def user(text: str) -> list[Message]:
    """Return a conversation of one question."""
    return [Message("user", text)]


def check_tokens(reply: Reply, *, prompt: int | None = None, completion: int | None = None) -> None:
    """Make sure that the work was what the case wants done.

    Raises:
        Unfair: it was not.
    """
    if prompt is not None and reply.prompt_tokens != prompt:
        raise Unfair(f"the prompt had {reply.prompt_tokens} tokens instead of {prompt}")
    if completion is not None and reply.completion_tokens != completion:
        raise Unfair(
            f"the answer ended ({reply.reason}) after {reply.completion_tokens} tokens, not {completion}"
        )


def facts(reply: Reply) -> dict[str, int]:
    """Return the token counts that a record keeps."""
    return {
        "prompt_tokens": reply.prompt_tokens,
        "cached_tokens": reply.cached_tokens,
        "completion_tokens": reply.completion_tokens,
    }
