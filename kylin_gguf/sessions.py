"""Conversations: who said what, and the answer that is being given."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kylin_gguf import call_options, frames
from kylin_gguf.conversations import Conversation
from kylin_gguf.engine.generation import Generation, Outcome
from kylin_gguf.engine.process import EngineProcess
from kylin_gguf.engine.remote.options import request_fields
from kylin_gguf.errors import Busy, InternalError, InvalidValue, KylinError, NotLocal
from kylin_gguf.records import (
    Entry,
    Message,
    Model,
    Overflow,
    Progress,
    ProgressCallback,
    RemoteModel,
    SamplingOptions,
)

if TYPE_CHECKING:
    from kylin_gguf.assistant import Assistant

log = logging.getLogger(__name__)

MAX_PROMPT_CHARS = 1_000_000
MODES = ("chat", "assistant")
GENERATE_OPTIONS = ("prompt", "mode", *SamplingOptions.names())

Acquire = Callable[[Model, ProgressCallback], Awaitable[EngineProcess]]
MakeAssistant = Callable[[], "Awaitable[Assistant]"]
"""Makes a conversation's assistant at its first turn with one: most have none."""


@dataclass
class _Cut:
    """How many messages of the context the last prompt left out. The next begins at the same place, so that
    it continues what the prefix cache holds. Another context or model has a cut of its own."""

    dropped: int = 0


@dataclass(frozen=True)
class _Answer:
    """An answer to be given: its stream, the messages with the question last, how to sample, and by whom."""

    generation: Generation
    messages: list[Message]
    sampling: SamplingOptions
    model: Model
    cut: _Cut


class Session:
    """One conversation, with one model at a time. One answer at a time."""

    def __init__(
        self,
        model: Model,
        acquire: Acquire,
        conversation: Conversation | None = None,
        overflow: Overflow = "trim",
        make_assistant: MakeAssistant | None = None,
    ) -> None:
        """``conversation`` is what was said before; ``overflow`` says what happens once it no longer fits the
        context; without ``make_assistant`` there is only chat."""
        self._model, self._acquire, self._overflow = model, acquire, overflow
        self._make_assistant = make_assistant
        self._assistant: Assistant | None = None
        self._conversation = conversation or Conversation()
        self._cut = _Cut()
        self._running: Generation | None = None
        self._starting: asyncio.Task[None] | None = None
        self._loading: asyncio.Future[EngineProcess] | None = None
        self.kept_as = ""
        """The id that the conversation is kept by; empty when it ends with the session."""
        self.on_change: Callable[[], None] = lambda: None
        """Called when the conversation, or the model, has become another."""

    @property
    def model(self) -> Model:
        """The model that answers."""
        return self._model

    @property
    def overflow(self) -> Overflow:
        """What happens once the conversation no longer fits the context."""
        return self._overflow

    @property
    def conversation(self) -> Conversation:
        """All that was said."""
        return self._conversation

    async def generate(self, options: Mapping[str, Any]) -> Generation:
        """Start an answer to ``options["prompt"]``; the others are ``mode`` and sampling options.

        In the mode ``assistant`` a prompt that asks for a command has it carried out; any other one, and all
        in the mode ``chat``, are answered by the model.

        Returns at once: a model that has to be loaded first is loaded while the client holds the stream,
        which carries ``notice`` frames meanwhile. The turn enters the history when the answer has ended
        without an error.

        Raises:
            UnknownOption, InvalidValue: bad ``options``.
            NotLocal: a server has the model, and ``mode`` is ``assistant``.
            ConversationTooLong: there is no room for the prompt.
            Busy: the last answer has not ended.
        """
        # Before the prompt is missed: it may be there under a misspelt name.
        call_options.refuse_unknown(options, GENERATE_OPTIONS)
        rest = dict(options)
        prompt = rest.pop("prompt", None)
        if not isinstance(prompt, str) or not 0 < len(prompt) <= MAX_PROMPT_CHARS:
            raise InvalidValue("prompt", repr(prompt)[:80], f"text of 1 to {MAX_PROMPT_CHARS} characters")
        mode = rest.pop("mode", MODES[0])
        modes = MODES if self._make_assistant or isinstance(self._model, RemoteModel) else MODES[:1]
        if mode not in modes:
            raise InvalidValue("mode", repr(mode)[:80], " or ".join(modes))
        sampling = SamplingOptions.from_options(rest)
        if isinstance(self._model, RemoteModel):
            _check_remote(self._model, mode, sampling)
        self._conversation.check_room(len(prompt))
        if self._running:
            raise Busy("answers in this session", 1)
        generation = self._running = Generation()
        generation.speaks = sampling.sentences
        if mode == "chat":
            self._forget()
        question = Message("user", prompt)
        messages = [*self._conversation.context(), question]
        conversation, cut = self._conversation, self._cut
        generation.finished.add_done_callback(lambda done: self._ended(conversation, cut, question, done))
        answer = _Answer(generation, messages, sampling, self._model, cut)
        self._starting = asyncio.ensure_future(self._start(answer, assisted=mode == "assistant"))
        return generation

    async def _start(self, answer: _Answer, *, assisted: bool = False, again: bool = False) -> None:
        """Have ``answer`` given. A worker that dies before it has said anything costs one more try, the one
        with ``again``."""
        generation, dropped = answer.generation, answer.cut.dropped
        try:
            said = await self._assist(generation, answer.messages[-1].content) if assisted else None
            if said is not None:
                generation.end("stop", text=said)
                return
            engine = await self._loaded(answer)
            if reason := engine.news():
                generation.send(frames.stepped_down(reason))
            if isinstance(answer.model, RemoteModel):
                generation.send(frames.remote(answer.model.host))
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

    async def _loaded(self, answer: _Answer) -> EngineProcess:
        """Return the worker that is to answer, whose model may have to be loaded first.

        Raises:
            CancelledError: the answer was cancelled. The load goes on: others may wait for it.
        """
        generation = answer.generation
        if generation.cancelled:
            raise asyncio.CancelledError

        def report(progress: Progress) -> None:
            if not generation.cancelled:  # else the stream has ended
                generation.notice("loading", progress.fraction)

        self._loading = asyncio.ensure_future(self._acquire(answer.model, report))
        # After a cancel nobody else looks how it has ended.
        self._loading.add_done_callback(lambda done: done.cancelled() or done.exception())
        waiting = asyncio.shield(self._loading)
        generation.handed_over(lambda: _stop(waiting))
        return await waiting

    def _again(self, answer: _Answer, error: KylinError) -> None:
        log.warning("%s Asking once more.", error.statement())
        self._starting = asyncio.ensure_future(self._start(answer, again=True))

    async def _assist(self, generation: Generation, prompt: str) -> str | None:
        """Do what ``prompt`` asks for and return what was said about it; None: it is for the chat.

        Raises:
            CancelledError: the answer was cancelled. What was being carried out may have been done.
        """
        assert self._make_assistant is not None
        if generation.cancelled:  # before anything could have begun
            raise asyncio.CancelledError
        self._assistant = self._assistant or await self._make_assistant()
        turn = asyncio.ensure_future(self._assistant.turn(prompt, generation))
        generation.handed_over(lambda: _stop(turn))
        with generation.watched():
            return await turn

    def _ended(
        self, conversation: Conversation, cut: _Cut, question: Message, finished: asyncio.Future[Outcome]
    ) -> None:
        self._running = None
        if finished.cancelled():  # whoever awaited it gave up; the answer is lost with it
            return
        outcome = finished.result()
        cut.dropped = max(cut.dropped, outcome.dropped)
        if outcome.error is None and outcome.text:
            conversation.add(question, Message("assistant", outcome.text))
            if conversation is self._conversation:  # else it was replaced while it was being answered
                self.on_change()

    # --- The conversation -----------------------------------------------------------------------------

    def replace(self, conversation: Conversation) -> None:
        """Go on with another conversation; an answer in the making does not enter it."""
        self._conversation = conversation
        self._context_changed()

    def set_context(self, entries: Sequence[Entry]) -> None:
        """Replace the conversation; raises as ``Conversation``."""
        self.replace(self._conversation.replaced(entries))

    def select_context(self, ids: Collection[int]) -> None:
        """Give answers from the messages with these ids; raises as ``Conversation.select``."""
        self._conversation.select(ids)
        self._context_changed()

    def clear(self) -> None:
        """Forget the conversation; the system message stays."""
        self.replace(self._conversation.cleared())

    def switch_model(self, model: Model, make_assistant: MakeAssistant | None) -> None:
        """Have ``model`` give the next answers, from the same conversation in its own template."""
        self._model, self._make_assistant, self._assistant = model, make_assistant, None
        self._context_changed()

    def _context_changed(self) -> None:
        self._cut = _Cut()
        self._forget()
        self.on_change()

    def _forget(self) -> None:
        """Let the next command refer to nothing that was said before."""
        if self._assistant:
            self._assistant.forget()

    async def close(self) -> None:
        """Stop a running answer."""
        if self._running:
            self._running.cancel()


def _check_remote(model: RemoteModel, mode: str, sampling: SamplingOptions) -> None:
    """Refuse what cannot be had of a server before anything is sent there."""
    if mode != MODES[0]:
        raise NotLocal(model.name, model.host, "commands")
    request_fields(sampling)


def _stop(future: asyncio.Future[Any]) -> None:
    future.cancel()
