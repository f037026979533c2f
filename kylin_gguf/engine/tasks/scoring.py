"""Scores a closed set of answers against each other."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from kylin_gguf.engine.context import Context, Logits
from kylin_gguf.engine.prefix_cache import Slot
from kylin_gguf.engine.tasks.task import Priority
from kylin_gguf.engine.trie import Node, Trie
from kylin_gguf.errors import InvalidValue, KylinError
from kylin_gguf.frames import EndReason
from kylin_gguf.records import SPARE_SEQUENCES, Scores


class Scoring:
    """Tells how probable each of a closed set of answers is, in one batched decode."""

    def __init__(
        self,
        request_id: int,
        prompt: list[int],
        answers: Sequence[Sequence[int]],
        report: Callable[[Scores | None, KylinError | None], None],
        *,
        standing: bool = False,
    ) -> None:
        """Build the trie of ``answers``, each of which ends with a token that ends a turn.

        Raises:
            InvalidValue: no answers, equal answers, or more open paths than there are lanes.
        """
        self.id, self.tokens = request_id, prompt
        self.priority = Priority.INTERACTIVE
        self.room = 0
        self.standing = standing
        self.cancelled = False
        self.paused = False
        self._report = report
        try:
            self._trie = Trie(answers)
        except ValueError as error:
            raise InvalidValue(
                "continuations", f"{len(answers)} texts", f"different ones ({error})"
            ) from error
        self.lanes = self._trie.lane_count
        if not answers or self.lanes > SPARE_SEQUENCES:
            raise InvalidValue("continuations", f"{len(answers)} texts", f"1 to {SPARE_SEQUENCES} open paths")
        self._root: Logits | None = None
        self._began = time.perf_counter()
        self._prefilled = self._began

    def queued(self, position: int) -> None:
        """Nothing: whoever asked has no stream to be told on."""

    def started(self, cached: int) -> None:
        """Note when prefill begins."""
        self._began = time.perf_counter()

    def logits_ready(self, context: Context, slot: Slot, index: int) -> bool:
        """Keep the root's logits: the next decode overwrites them."""
        self._root = context.logits(index).copy()
        self._prefilled = time.perf_counter()
        return False

    def guess(self, limit: int) -> Sequence[int]:
        """Nothing: it draws no tokens."""
        return ()

    def settle(self, context: Context, slot: Slot, lanes: Sequence[int]) -> bool:
        """Decode the trie's open paths beside the prompt and report the scores."""
        assert self._root is not None, "the prompt's logits come first"
        for lane in lanes:
            context.share(slot.sequence, lane, len(slot.tokens))
        rows = self._decode_nodes(context, len(slot.tokens), lanes)
        root = self._root
        logprobs = self._trie.score(lambda node: root if node is self._trie.root else rows[id(node)])
        now = time.perf_counter()
        self._report(
            Scores(logprobs, (self._prefilled - self._began) * 1e3, (now - self._prefilled) * 1e3), None
        )
        return True

    def _decode_nodes(self, context: Context, base: int, lanes: Sequence[int]) -> dict[int, Logits]:
        rows: dict[int, Logits] = {}
        pending: list[tuple[Node, int]] = []
        batch = context.new_batch()

        def flush() -> None:
            if batch.size:
                context.decode(batch)
            rows.update({id(node): np.array(context.logits(index)) for node, index in pending})
            pending.clear()
            batch.clear()

        for node in self._trie.to_decode():
            if batch.full:
                flush()
            sequences = [lanes[lane] for lane in node.lanes]
            index = batch.add(node.token, base + node.depth - 1, sequences, logits=node.branches)
            if node.branches:
                pending.append((node, index))
        flush()
        return rows

    def finish(self, reason: EndReason, failure: KylinError | None = None) -> None:
        """Report a failure or a cancellation; success was reported by ``settle``."""
        self._report(None, failure)
