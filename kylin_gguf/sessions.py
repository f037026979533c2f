"""Conversations: who said what, and the answer that is being given."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kylin_gguf.assistant import Assistant
from kylin_gguf.engine.generation import Generation, Outcome
from kylin_gguf.engine.process import EngineProcess
from kylin_gguf.errors import Busy, InternalError, InvalidValue, KylinError, UnknownOption
from kylin_gguf.records import InstalledModel, Message, Overflow, ProgressCallback, SamplingOptions

log = logging.getLogger(__name__)

MAX_PROMPT_CHARS = 1_000_000
MODES = ("chat", "assistant")
GENERATE_OPTIONS = ("prompt", "mode", *SamplingOptions.names())

Acquire = Callable[[InstalledModel, ProgressCallback], Awaitable[EngineProcess]]


@dataclass(frozen=True)
class _Answer:
    """An answer to be given: its stream, the conversation with the question last, and how to sample."""

    generation: Generation
    messages: list[Message]
    sampling: SamplingOptions


class Session:
    """One conversation with one model. One answer at a time."""

    def __init__(
        self,
        model: InstalledModel,
        acquire: Acquire,
        system: str = "",
        overflow: Overflow = "trim",
        assistant: Assistant | None = None,
    ) -> None:
        """``overflow`` says what happens once the conversation no longer fits the context; without an
        ``assistant`` there is only chat."""
        self._model, self._acquire, self._overflow = model, acquire, overflow
        self._assistant = assistant
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
        """Start an answer to ``options["prompt"]``; the others are ``mode`` and sampling options.

        In the mode ``assistant`` a prompt that asks for a command has it carried out; any other one, and all
        in the mode ``chat``, are answered by the model.

        Returns at once: a model that has to be loaded first is loaded while the client holds the stream,
        which carries ``notice`` frames meanwhile. The turn enters the history when the answer has ended
        without an error.

        Raises:
            UnknownOption, InvalidValue: bad ``options``.
            Busy: the last answer has not ended.
        """
        for name in options:  # before the prompt is missed: it may be there under a misspelt name
            if name not in GENERATE_OPTIONS:
                raise UnknownOption(name, GENERATE_OPTIONS)
        rest = dict(options)
        prompt = rest.pop("prompt", None)
        if not isinstance(prompt, str) or not 0 < len(prompt) <= MAX_PROMPT_CHARS:
            raise InvalidValue("prompt", repr(prompt)[:80], f"text of 1 to {MAX_PROMPT_CHARS} characters")
        mode = rest.pop("mode", MODES[0])
        modes = MODES if self._assistant else MODES[:1]
        if mode not in modes:
            raise InvalidValue("mode", repr(mode)[:80], " or ".join(modes))
        sampling = SamplingOptions.from_options(rest)
        if self._running:
            raise Busy("answers in this session", 1)
        generation = self._running = Generation()
        if mode == "chat":
            self._forget()
        question = Message("user", prompt)
        messages = [*self._system, *self._history, question]
        history = self._history
        generation.finished.add_done_callback(lambda future: self._ended(history, question, future))
        answer = _Answer(generation, messages, sampling)
        self._starting = asyncio.ensure_future(self._start(answer, assisted=mode == "assistant"))
        return generation

    async def _start(self, answer: _Answer, *, assisted: bool = False, again: bool = False) -> None:
        """Have ``answer`` given. A worker that dies before it has said anything costs one more try, the one
        with ``again``."""
        generation, dropped = answer.generation, self._dropped
        try:
            said = await self._assist(generation, answer.messages[-1].content) if assisted else None
            if said is not None:
                generation.end("stop", text=said)
                return
            engine = await self._acquire(
                self._model, lambda progress: generation.notice("loading", progress.fraction)
            )
            if generation.cancelled:
                generation.end("cancelled")
            else:
                generation.on_lost = None if again else functools.partial(self._again, answer)
                engine.generate(
                    generation,
                    answer.messages,
                    answer.sampling,
                    overflow=self._overflow,
                    dropped=dropped,
                )
        except asyncio.CancelledError:
            generation.end("cancelled")
        except KylinError as error:
            generation.end("error", error)
        except Exception as error:  # whatever happens, the stream ends with an `end` frame
            generation.end("error", InternalError(type(error).__name__))
            raise

    def _again(self, answer: _Answer, error: KylinError) -> None:
        log.warning("%s Asking once more.", error.statement())
        self._starting = asyncio.ensure_future(self._start(answer, again=True))

    async def _assist(self, generation: Generation, prompt: str) -> str | None:
        """Do what ``prompt`` asks for and return what was said about it; None: it is for the chat.

        Raises:
            CancelledError: the answer was cancelled. What was being carried out may have been done.
        """
        assert self._assistant is not None
        if generation.cancelled:  # before anything could have begun
            raise asyncio.CancelledError
        turn = asyncio.ensure_future(self._assistant.turn(prompt, generation))
        generation.handed_over(lambda: _stop(turn))
        with generation.watched():
            return await turn

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
        self._forget()

    def clear(self) -> None:
        """Forget the conversation; the system prompt stays."""
        self._history, self._dropped = [], 0
        self._forget()

    def _forget(self) -> None:
        """Let the next command refer to nothing that was said before."""
        if self._assistant:
            self._assistant.forget()

    async def close(self) -> None:
        """Stop a running answer."""
        if self._running:
            self._running.cancel()


def _stop(task: asyncio.Task[Any]) -> None:
    task.cancel()
