"""Which part of a conversation goes into the prompt when not all of it fits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kylin_gguf.errors import ContextFull
from kylin_gguf.records import Message, Overflow

ANSWER_SHARE = 4
"""At most this fraction (one in four) of the context is kept free for the answer."""

KEPT_AFTER_CUT = 0.75
"""Share of what fits that a cut leaves. Cutting to the brim would cut again at the next turn, and each cut
moves the conversation under the cached prefix, so that all of it is computed again."""

Encode = Callable[[Sequence[Message]], list[int]]


@dataclass(frozen=True)
class Fitted:
    """A prompt that fits. ``dropped`` messages after the system prompt are not in it."""

    tokens: list[int]
    dropped: int


def room_for_prompt(context_length: int, max_tokens: int) -> int:
    """Return the prompt tokens that leave room for an answer of ``max_tokens``, or for a short one."""
    return context_length - min(max_tokens, context_length // ANSWER_SHARE)


def fit(encode: Encode, messages: Sequence[Message], room: int, overflow: Overflow, dropped: int) -> Fitted:
    """Encode ``messages``, without the oldest turns where they do not fit.

    Turns go whole, from one user message to the next; the system prompt and the newest message stay.

    Args:
        encode: From messages to the prompt's tokens, template included.
        messages: The conversation; a system prompt can only be the first.
        room: How many tokens the prompt may have.
        overflow: ``refuse`` raises rather than drop anything.
        dropped: How many messages after the system prompt an earlier prompt of this conversation left out;
            this one begins no earlier.

    Raises:
        ContextFull: it does not fit, and nothing may be dropped or is left to drop.
        TemplateFailed: as ``encode`` raises it.
    """
    head = 1 if messages[0].role == "system" else 0
    system, turns = messages[:head], messages[head:]

    def encoded(start: int) -> list[int]:
        return encode([*system, *turns[start:]])

    tokens = encoded(dropped)
    if len(tokens) <= room:
        return Fitted(tokens, dropped)
    starts = [at for at in range(dropped + 1, len(turns)) if turns[at].role == "user"]
    if overflow == "refuse" or not starts:
        raise ContextFull(len(tokens), room)
    # A later start gives a shorter prompt, so a few renderings find the earliest that is short enough.
    low, high, best = 0, len(starts) - 1, encoded(starts[-1])
    if len(best) > room:
        raise ContextFull(len(best), room)
    while low < high:
        middle = (low + high) // 2
        tokens = encoded(starts[middle])
        if len(tokens) <= room * KEPT_AFTER_CUT:
            high, best = middle, tokens
        else:
            low = middle + 1
    return Fitted(best, starts[high])
