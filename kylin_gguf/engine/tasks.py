"""What a worker can be asked to do once a prompt is in the KV cache: generate text, or score answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from kylin_gguf import frames
from kylin_gguf.engine.llama import MAX_LANES, Batch, Context, Logits, Model
from kylin_gguf.engine.prefix_cache import Slot
from kylin_gguf.engine.sampling import Sampler
from kylin_gguf.engine.stream import ClientStream
from kylin_gguf.engine.text import TextAssembler
from kylin_gguf.engine.trie import Node, Trie
from kylin_gguf.errors import InvalidValue, KylinError
from kylin_gguf.frames import EndReason
from kylin_gguf.records import SamplingOptions, Scores, Usage

FRAME_INTERVAL_S = 0.03
"""Text is sent no more often than this. Waking a reader for each token of a fast model takes a core from the
decode threads, and nobody reads thirty frames a second apart from each other."""


class Task(Protocol):
    """A request in the scheduler's hands."""

    id: int
    prompt: list[int]
    next_token: int | None
    """The token to decode next; None while the prompt is being prefilled."""
    cancelled: bool

    @property
    def paused(self) -> bool:
        """Whether to leave this task out of the next step."""

    def started(self, cached: int) -> None:
        """A slot was found that holds ``cached`` tokens of the prompt."""

    def logits_ready(self, context: Context, slot: Slot, index: int) -> bool:
        """Use the logits of batch output ``index``; return whether the task is done."""

    def settle(self, context: Context, slot: Slot) -> bool:
        """Do what needs decodes of the task's own; return whether the task is done."""

    def finish(self, reason: EndReason, failure: KylinError | None = None) -> None:
        """End the task. Called exactly once."""


class Generation:
    """Draws tokens and streams them to a client."""

    def __init__(  # noqa: PLR0913 - a request has this many parts; the caller builds it in one place
        self,
        request_id: int,
        *,
        model: Model,
        prompt: list[int],
        options: SamplingOptions,
        stream: ClientStream,
        report: Callable[[EndReason, str, Usage, KylinError | None], None],
    ) -> None:
        self.id, self.prompt, self.stream = request_id, prompt, stream
        self.next_token: int | None = None
        self.cancelled = False
        self._model, self._options, self._report = model, options, report
        self._sampler = Sampler(model, options)
        self._text = TextAssembler(options.stop)
        self._unsent = ""
        self._sent = 0.0
        self._cached = self._drawn = 0
        self._arrived = time.perf_counter()
        self._started = self._first = self._arrived

    @property
    def paused(self) -> bool:
        """A client that does not read pauses its own sequence only."""
        return self.stream.blocked

    def started(self, cached: int) -> None:
        """Note when prefill begins."""
        self._cached, self._started = cached, time.perf_counter()

    def logits_ready(self, context: Context, slot: Slot, index: int) -> bool:
        """Draw a token, send its text, and decide whether that was the last."""
        token = self._sampler.sample(context, index)
        if not self._drawn:
            self._first = time.perf_counter()
        self._drawn += 1
        if self._model.is_end(token):
            self.finish("stop")
            return True
        self._show(self._text.push(self._model.piece(token)))
        if self._text.stopped:
            self.finish("stop")
        elif self._drawn >= self._options.max_tokens or len(slot.tokens) + 1 >= context.length:
            self.finish("length")
        else:
            self.next_token = token
            return False
        return True

    def _show(self, piece: str, *, last: bool = False) -> None:
        """Send ``piece``, together with the next ones if the last frame is younger than a reader can tell."""
        self._unsent += piece
        now = time.perf_counter()
        if self._unsent and (last or now - self._sent >= FRAME_INTERVAL_S):
            self.stream.send(frames.text(self._unsent))
            self._unsent, self._sent = "", now

    def settle(self, context: Context, slot: Slot) -> bool:
        """Nothing: a generation's tokens travel in the common batch."""
        return False

    def finish(self, reason: EndReason, failure: KylinError | None = None) -> None:
        """Send what was held back, the usage and the end, and report to the parent."""
        self._show(self._text.finish(), last=True)
        usage = self._usage()
        self.stream.send(frames.usage(usage))
        if failure:
            self.stream.send(frames.error(failure))
        self.stream.send(frames.end(reason))
        self._sampler.close()
        self._report(reason, self._text.text, usage, failure)

    def _usage(self) -> Usage:
        now = time.perf_counter()
        prefill_s = self._first - self._started
        decode_s = now - self._first
        return Usage(
            prompt_tokens=len(self.prompt),
            cached_tokens=self._cached,
            completion_tokens=self._drawn,
            first_token_s=self._first - self._arrived,
            total_s=now - self._arrived,
            prefill_tokens_per_s=(len(self.prompt) - self._cached) / prefill_s if prefill_s > 0 else 0.0,
            # The first token is prefill's; the rest are decode's.
            decode_tokens_per_s=(self._drawn - 1) / decode_s if self._drawn > 1 else 0.0,
        )


class Scoring:
    """Tells how probable each of a closed set of answers is, in one batched decode."""

    def __init__(
        self,
        request_id: int,
        prompt: list[int],
        answers: Sequence[Sequence[int]],
        first_lane: int,
        report: Callable[[Scores | None, KylinError | None], None],
    ) -> None:
        """Build the trie; ``first_lane`` is the first sequence id that no slot uses.

        Raises:
            InvalidValue: no answers, equal answers, or more open paths than there are lanes.
        """
        self.id, self.prompt = request_id, prompt
        self.next_token: int | None = None
        self.cancelled = False
        self.paused = False
        self._report, self._first_lane = report, first_lane
        try:
            self._trie = Trie(answers)
        except ValueError as error:
            raise InvalidValue(
                "continuations", f"{len(answers)} texts", f"different ones ({error})"
            ) from error
        if not answers or self._trie.lane_count > MAX_LANES:
            raise InvalidValue("continuations", f"{len(answers)} texts", f"1 to {MAX_LANES} open paths")
        self._root: Logits | None = None
        self._began = time.perf_counter()
        self._prefilled = self._began

    def started(self, cached: int) -> None:
        """Note when prefill begins."""
        self._began = time.perf_counter()

    def logits_ready(self, context: Context, slot: Slot, index: int) -> bool:
        """Keep the root's logits: the next decode overwrites them."""
        self._root = context.logits(index).copy()
        self._prefilled = time.perf_counter()
        return False

    def settle(self, context: Context, slot: Slot) -> bool:
        """Decode the trie's open paths beside the prompt and report the scores."""
        if self._root is None:
            return False
        lanes = range(self._first_lane, self._first_lane + self._trie.lane_count)
        for lane in lanes:
            context.share(slot.sequence, lane, len(slot.tokens))
        try:
            rows = self._decode_nodes(context, len(slot.tokens))
        finally:
            for lane in lanes:
                context.truncate(lane, 0)
        root = self._root
        logprobs = self._trie.score(lambda node: root if node is self._trie.root else rows[id(node)])
        now = time.perf_counter()
        self._report(
            Scores(logprobs, (self._prefilled - self._began) * 1e3, (now - self._prefilled) * 1e3), None
        )
        return True

    def _decode_nodes(self, context: Context, base: int) -> dict[int, Logits]:
        rows: dict[int, Logits] = {}
        pending: list[tuple[Node, int]] = []
        batch = Batch(context.batch_size)

        def flush() -> None:
            if batch.size:
                context.decode(batch)
            rows.update({id(node): np.array(context.logits(index)) for node, index in pending})
            pending.clear()
            batch.clear()

        for node in self._trie.to_decode():
            if not batch.room:
                flush()
            lanes = [self._first_lane + lane for lane in node.lanes]
            index = batch.add(node.token, base + node.depth - 1, lanes, logits=node.branches)
            if node.branches:
                pending.append((node, index))
        flush()
        return rows

    def finish(self, reason: EndReason, failure: KylinError | None = None) -> None:
        """Report a failure or a cancellation; success was reported by ``settle``."""
        self._report(None, failure)
