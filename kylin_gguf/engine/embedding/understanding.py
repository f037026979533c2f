"""Requests for hidden states: one text that somebody waits for, and lists that are learnt from meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kylin_gguf.engine.embedding.hidden_states import HiddenStateContext
from kylin_gguf.engine.embedding.queue import EmbeddingQueue, Request
from kylin_gguf.engine.radix_tree import common_prefix
from kylin_gguf.records import Message


class Understanding:
    """Two queues over one context; the worker runs ``urgent`` first and ``background`` last."""

    def __init__(self, context: HiddenStateContext) -> None:
        self._context = context
        self.urgent, self.background = EmbeddingQueue(context), EmbeddingQueue(context)
        self._before: tuple[tuple[Message, ...], float] | None = None

    def submit(
        self,
        request: Request,
        before: tuple[Message, ...],
        depth: float,
        encode: Callable[[str], Sequence[int]],
        *,
        background: bool,
    ) -> None:
        """Queue ``request``, whose texts follow ``before``; ``encode`` returns the tokens of both together.

        Raises:
            TextTooLong, InvalidValue, Busy: as ``EmbeddingQueue.submit`` does.
        """
        if (before, depth) != self._before:
            # Whatever the template writes behind the last message, these begin alike until the text begins.
            one, other = encode("a"), encode("1")
            self._context.look(depth, one[: common_prefix(one, other)])
            self._before = (before, depth)
        (self.background if background else self.urgent).submit(request)
