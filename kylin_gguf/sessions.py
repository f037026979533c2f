"""Conversations: who said what, and the answer that is being given."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from kylin_gguf.engine.generation import Generation, Outcome
from kylin_gguf.engine.process import EngineProcess
from kylin_gguf.errors import Busy, InternalError, InvalidValue, KylinError, UnknownOption
from kylin_gguf.records import InstalledModel, Message, Overflow, ProgressCallback, SamplingOptions

MAX_PROMPT_CHARS = 1_000_000
_GENERATE_OPTIONS = ("prompt", *SamplingOptions.names())

Acquire = Callable[[InstalledModel, ProgressCallback], Awaitable[EngineProcess]]


class Session:
    """One conversation with one model. One answer at a time."""

    def __init__(
        self, model: InstalledModel, acquire: Acquire, system: str = "", overflow: Overflow = "trim"
    ) -> None:
        """``overflow`` says what happens once the conversation no longer fits the context."""
        self._model, self._acquire, self._overflow = model, acquire, overflow
        self._system = [Message("system", system)] if system else []
        self._history: list[Message] = []
        self._dropped = 0
        """How many messages of the history the last prompt left out. The next begins at the same place, so
        that it continues what the prefix cache holds."""
        self._running: Generation | None = None
        self._starting: asyncio.Task[None] | None = None

    @property
    def model(self) -> str:
        """The name of the model that answers."""
        return self._model.name

    async def generate(self, options: Mapping[str, Any]) -> Generation:
        """Start an answer to ``options["prompt"]``; the other options are sampling options.

        Returns at once: a model that has to be loaded first is loaded while the client holds the stream,
        which carries ``notice`` frames meanwhile. The turn enters the history when the answer has ended
        without an error.

        Raises:
            UnknownOption, InvalidValue: bad ``options``.
            Busy: the last answer has not ended.
        """
        for name in options:  # before the prompt is missed: it may be there under a misspelt name
            if name not in _GENERATE_OPTIONS:
                raise UnknownOption(name, _GENERATE_OPTIONS)
        rest = dict(options)
        prompt = rest.pop("prompt", None)
        if not isinstance(prompt, str) or not 0 < len(prompt) <= MAX_PROMPT_CHARS:
            raise InvalidValue("prompt", repr(prompt)[:80], f"text of 1 to {MAX_PROMPT_CHARS} characters")
        sampling = SamplingOptions.from_options(rest)
        if self._running:
            raise Busy("answers in this session", 1)
        generation = self._running = Generation()
        question = Message("user", prompt)
        messages = [*self._system, *self._history, question]
        history = self._history
        generation.finished.add_done_callback(lambda future: self._ended(history, question, future))
        self._starting = asyncio.ensure_future(self._start(generation, messages, sampling, self._dropped))
        return generation

    async def _start(
        self, generation: Generation, messages: list[Message], sampling: SamplingOptions, dropped: int
    ) -> None:
        try:
            engine = await self._acquire(
                self._model, lambda progress: generation.notice("loading", progress.fraction)
            )
            if generation.cancelled:
                generation.end("cancelled")
            else:
                engine.generate(generation, messages, sampling, overflow=self._overflow, dropped=dropped)
        except KylinError as error:
            generation.end("error", error)
        except Exception as error:  # whatever happens, the stream ends with an `end` frame
            generation.end("error", InternalError(type(error).__name__))
            raise

    def _ended(self, history: list[Message], question: Message, finished: asyncio.Future[Outcome]) -> None:
        self._running = None
        if finished.cancelled():  # whoever awaited it gave up; the answer is lost with it
            return
        outcome = finished.result()
        if history is self._history:  # else the conversation was replaced while it was being answered
            self._dropped = max(self._dropped, outcome.dropped)
        if outcome.error is None and outcome.text:
            self._history += [question, Message("assistant", outcome.text)]

    def messages(self) -> tuple[Message, ...]:
        """Return the conversation so far, the system prompt first if there is one."""
        return (*self._system, *self._history)

    def set_context(self, messages: Sequence[Message]) -> None:
        """Replace the conversation; a leading system message replaces the system prompt.

        Raises:
            InvalidValue: a system message that is not the first.
        """
        if any(message.role == "system" for message in messages[1:]):
            raise InvalidValue("messages", "a later system message", "a system message in first place only")
        split = 1 if messages and messages[0].role == "system" else 0
        self._system, self._history = list(messages[:split]), list(messages[split:])
        self._dropped = 0

    def clear(self) -> None:
        """Forget the conversation; the system prompt stays."""
        self._history, self._dropped = [], 0

    async def close(self) -> None:
        """Stop a running answer."""
        if self._running:
            self._running.cancel()
