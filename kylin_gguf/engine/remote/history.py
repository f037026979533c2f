"""Which part of a conversation is sent again where a server says that all of it does not fit."""

from __future__ import annotations

from collections.abc import Sequence

from kylin_gguf.records import Message


def without_oldest(messages: Sequence[Message], dropped: int) -> list[Message]:
    """Return ``messages`` without the first ``dropped`` behind the system message."""
    head = 1 if messages[0].role == "system" else 0
    return [*messages[:head], *messages[head + dropped :]]


def next_cut(messages: Sequence[Message], dropped: int) -> int | None:
    """Return how many messages to leave out where leaving out ``dropped`` was not enough; None when only the
    newest turn is left.

    Only the server can count its tokens, so each cut leaves out half of the turns that were left: a few
    refusals find a beginning that fits. Turns go whole, from one user message to the next.
    """
    turns = messages[1:] if messages[0].role == "system" else messages
    starts = [at for at in range(dropped + 1, len(turns)) if turns[at].role == "user"]
    return starts[len(starts) // 2] if starts else None
