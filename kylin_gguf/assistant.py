"""The assistant's turn: what the user said is a command, or leaves two open, or is for the chat.

One ``Assistant`` belongs to one conversation and remembers what its next turn may refer to: the last command,
and a question that is open. What it has to say goes into the turn's stream as frames.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from kylin_gguf import frames
from kylin_gguf.actuator import followup, reading, replies
from kylin_gguf.actuator.catalogue import CommandCatalogue, Language
from kylin_gguf.actuator.interpret import MAX_UTTERANCE, Choice, Interpretation
from kylin_gguf.actuator.wording import normalise
from kylin_gguf.engine.generation import Generation
from kylin_gguf.errors import ExecutorFailed, ExecutorTimeout
from kylin_gguf.execution import CallExecutor, Route
from kylin_gguf.records import ProgressCallback

CONFIRM_S = 60.0
"""How long a command waits for the user's yes."""


@dataclass(frozen=True)
class Means:
    """What an assistant works with, as long as the service lives.

    ``catalogue`` returns all commands there are now, ``route`` who carries one out, ``call`` has it done.
    """

    catalogue: Callable[[], CommandCatalogue]
    route: Callable[[str], Route]
    call: CallExecutor


Interpret = Callable[[str, ProgressCallback], Awaitable[Interpretation]]
"""Interprets an utterance; the callback hears how far a model that has to be loaded is."""


class Assistant:
    """Commands within one conversation."""

    def __init__(self, means: Means, interpret: Interpret) -> None:
        self._means, self._interpret = means, interpret
        self._last: Choice | None = None
        self._open: reading.Readings | None = None
        self._language: Language = "en"

    def forget(self) -> None:
        """Refer to nothing that was said before: the conversation has changed."""
        self._last, self._open = None, None

    async def turn(self, said: str, stream: Generation) -> str | None:
        """Do what ``said`` asks for and return what was said to the user; None: it is for the chat.

        Raises:
            KylinError: the model that judges what is meant cannot be used.
        """
        text = normalise(said)
        if any(character.isalpha() for character in text):  # "50" goes on in the language spoken before
            self._language = replies.language_of(text)
        language = self._language
        if not text or len(text) > MAX_UTTERANCE:
            self.forget()
            return None
        picked = self._pick(text)
        if picked == "neither":
            return self._say(stream, replies.sentence("declined", language))
        choice = picked if isinstance(picked, Choice) else self._follow(text)
        if choice is not None:
            return await self._act(choice, stream, language)
        if self._last is None and followup.continues(text):
            return None  # it goes on about something that was said in the chat
        return await self._understand(said, stream, language)

    async def _understand(self, said: str, stream: Generation, language: Language) -> str | None:
        last, self._last = self._last, None  # whatever comes now, "a bit more" no longer means that
        found = await self._interpret(said, lambda at: stream.notice("loading", at.fraction))
        self._open = reading.open_readings(found)
        if self._open:
            self._last = last
            return self._ask(self._open, stream, language)
        if found.command is None:
            return None
        choice = Choice(found.command, found.arguments, found.confidence)
        return await self._act(choice, stream, language, found.to_json())

    def _pick(self, text: str) -> Choice | str | None:
        if self._open is None:
            return None
        (readings, self._open), catalogue = (self._open, None), self._means.catalogue()
        if any(choice.command not in catalogue for choice in readings):
            return None  # its catalogue has left
        picked = reading.pick(text, readings, catalogue)
        return readings[picked] if isinstance(picked, int) else picked

    def _follow(self, text: str) -> Choice | None:
        if self._last is None:
            return None
        catalogue = self._means.catalogue()
        found = followup.following(text, catalogue, self._last.command, self._last.arguments)
        return None if found is None else Choice(*found, confidence=1.0)

    # --- What is said -----------------------------------------------------------------------------

    def _say(self, stream: Generation, text: str) -> str:
        stream.say(text)
        return text

    def _ask(self, readings: reading.Readings, stream: Generation, language: Language) -> str:
        catalogue = self._means.catalogue()
        texts = [replies.describe(catalogue.get(c.command), c.arguments, language) for c in readings]
        question = replies.sentence("question", language, first=texts[0], second=texts[1])
        described = [c.to_json() | {"text": text} for c, text in zip(readings, texts, strict=True)]
        stream.send(frames.question(question, described))
        return self._say(stream, question)

    # --- What is done -----------------------------------------------------------------------------

    async def _act(
        self, choice: Choice, stream: Generation, language: Language, told: dict[str, Any] | None = None
    ) -> str:
        self._last = None
        route = self._means.route(choice.command)
        what = replies.describe(route.command, choice.arguments, language)
        needs_yes = route.command.risk == "confirm"
        stream.send(frames.command({**choice.to_json(), **(told or {}), "confirm": needs_yes}))
        if needs_yes:
            refusal = await self._confirm(replies.sentence("confirm", language, what=what), stream)
            if refusal:
                stream.send(frames.result({"status": refusal}))
                return self._say(stream, replies.sentence(refusal, language))
        try:
            done = await route.execute(choice.arguments, self._means.call, confirmed=True)
        except (ExecutorFailed, ExecutorTimeout) as error:
            stream.send(frames.result({"status": "failed", "code": error.code, "reason": str(error)}))
            unknown = isinstance(error, ExecutorTimeout)
            return self._say(
                stream, replies.sentence("unanswered" if unknown else "failed", language, what=what)
            )
        stream.send(frames.result(done.to_json()))
        if done.status == "done":
            self._last = choice
        return self._say(stream, replies.result(route.command, choice.arguments, done, language))

    async def _confirm(self, asked: str, stream: Generation) -> str:
        """Ask the user; return "declined" or "expired" unless the answer is yes."""
        stream.send(frames.confirm(asked, CONFIRM_S))
        try:
            return "" if await stream.confirmed(CONFIRM_S) else "declined"
        except TimeoutError:
            return "expired"
