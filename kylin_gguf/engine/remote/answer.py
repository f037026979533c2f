"""One answer of a server, on its way to a client."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from typing import Any

from kylin_gguf import frames
from kylin_gguf.engine.reasoning import Parts, ReasoningSplitter, tags_of
from kylin_gguf.engine.remote import history
from kylin_gguf.engine.remote.chunks import Chunk, Counts
from kylin_gguf.engine.remote.clock import Clock
from kylin_gguf.engine.remote.options import request_fields
from kylin_gguf.engine.remote.outlet import Outlet
from kylin_gguf.engine.remote.server import Server, TooLong
from kylin_gguf.engine.sentences import SentenceSplitter
from kylin_gguf.engine.text import TextAssembler
from kylin_gguf.errors import KylinError
from kylin_gguf.frames import EndReason
from kylin_gguf.records import Message, Overflow, SamplingOptions, Usage

MAX_CHARS = 2_000_000
"""Characters of one answer, thoughts included: as many as a conversation may have."""
_ENTRIES_OF_A_FRAME = 32
"""Tokens and alternatives of a frame with log-probabilities: see ``engine.sampling.logprobs``."""
_ENDS: dict[str, EndReason] = {"stop": "stop", "length": "length"}


class Answer:
    """Asks, and writes what comes into the client's stream."""

    def __init__(self, server: Server, outlet: Outlet, options: SamplingOptions) -> None:
        self._server, self._outlet, self._options = server, outlet, options
        # Some servers leave a model's thoughts in the text. With a schema all of it is the answer.
        splitter = None if options.json_schema else ReasoningSplitter(tags_of(""), thinking=False)
        self._assembler = TextAssembler((), splitter)
        self._sentences = SentenceSplitter() if options.sentences else None
        self._entries = max(1, _ENTRIES_OF_A_FRAME // (max(options.logprobs, 0) + 1))
        self._clock = Clock()
        self._counts: Counts | None = None
        self._length = 0
        self.dropped = 0
        """How many messages behind the system message were left out."""

    @property
    def text(self) -> str:
        """The answer so far."""
        return self._assembler.text

    @property
    def usage(self) -> Usage | None:
        """What it has cost, once the server has said how many tokens that were."""
        return self._clock.usage(self._counts) if self._counts else None

    async def run(self, messages: Sequence[Message], overflow: Overflow, dropped: int) -> EndReason:
        """Have ``messages`` answered, without the first ``dropped``, or more where they do not fit.

        Raises:
            RemoteUnreachable, RemoteFailed: the server, or what it sends.
            ContextFull: they do not fit, and nothing may be left out or is left to leave out.
            UnknownOption, InvalidGrammar: as ``request_fields``.
        """
        self.dropped = dropped
        while True:
            try:
                return await self._ask(history.without_oldest(messages, self.dropped))
            except TooLong as error:
                cut = history.next_cut(messages, self.dropped)
                if overflow == "refuse" or cut is None:
                    self.dropped = dropped
                    raise error.failure from None
                self.dropped = cut

    async def _ask(self, messages: Sequence[Message]) -> EndReason:
        body: dict[str, Any] = {
            "messages": [message.to_json() for message in messages],
            "stream": True,
            "stream_options": {"include_usage": True},
            **request_fields(self._options),
        }
        finish = ""
        async with contextlib.aclosing(self._server.events(body)) as events:
            begun = False
            async for chunk in events:
                if not begun and self.dropped:
                    self._outlet.post(frames.trimmed(self.dropped))
                begun = True
                finish = chunk.finish or finish
                self._counts = chunk.counts or self._counts
                self._take(chunk)
                await self._outlet.room()  # a client that does not read holds the server up, and nobody else
        if finish not in _ENDS:
            word = f"with the reason '{finish}'" if finish else "without a reason"
            raise self._server.failed(f"it ended the answer {word}")
        return _ENDS[finish]

    def _take(self, chunk: Chunk) -> None:
        if not (chunk.text or chunk.reasoning or chunk.logprobs):
            return
        self._clock.heard()
        self._length += len(chunk.text) + len(chunk.reasoning)
        if self._length > MAX_CHARS:
            raise self._server.failed(f"it sent more than {MAX_CHARS} characters")
        parts = self._assembler.push(chunk.text.encode())
        self._post(Parts(chunk.reasoning + parts.reasoning, parts.answer))
        tokens = list(chunk.logprobs)
        for at in range(0, len(tokens), self._entries):
            self._outlet.post(frames.logprobs(tokens[at : at + self._entries]))

    def _post(self, parts: Parts) -> None:
        if parts.reasoning:
            self._outlet.post(frames.reasoning(parts.reasoning))
        if parts.answer:
            self._outlet.post(frames.text(parts.answer))
            self._speak(self._sentences.push(parts.answer) if self._sentences else ())

    def _speak(self, sentences: Iterable[str]) -> None:
        for sentence in sentences:
            self._outlet.post(frames.sentence(sentence))

    def finish(self, reason: EndReason, failure: KylinError | None) -> None:
        """Write what was held back, the usage if it is known, and the end."""
        self._post(self._assembler.finish())
        self._speak(self._sentences.finish() if self._sentences else ())
        if usage := self.usage:
            self._outlet.post(frames.usage(usage))
        if failure:
            self._outlet.post(frames.error(failure))
        self._outlet.post(frames.end(reason))
