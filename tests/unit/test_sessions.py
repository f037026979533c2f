"""A session over an engine that answers at once: what it sends, and what it remembers of a cut."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from kylin_gguf import frames
from kylin_gguf.conversations import Conversation
from kylin_gguf.engine import first_text
from kylin_gguf.engine.generation import Generation, Outcome
from kylin_gguf.engine.pending import PendingRequests
from kylin_gguf.errors import ContextFull, KylinError, WorkerDied
from kylin_gguf.records import (
    Entry,
    InstalledModel,
    Message,
    Progress,
    ProgressCallback,
    SamplingOptions,
)
from kylin_gguf.sessions import Session

MODEL = InstalledModel("m", Path("m.gguf"), 1, writable=False)


@dataclass
class FakeEngine:
    """Answers "yes", claiming to have left out ``drops`` messages; keeps what it was given."""

    drops: int = 0
    error: KylinError | None = None
    given: list[dict[str, Any]] = field(default_factory=list)
    stepped_down: str = ""

    def news(self) -> str:
        return self.stepped_down

    def generate(
        self, generation: Generation, messages: Sequence[Message], options: SamplingOptions, **policy: Any
    ) -> None:
        self.given.append({"messages": [message.content for message in messages], **policy})
        outcome = (
            Outcome("error", error=self.error) if self.error else Outcome("stop", "yes", dropped=self.drops)
        )
        generation.settle(outcome)
        generation.stream.close()


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def session(engine: FakeEngine) -> Session:
    async def acquire(*_: object) -> Any:
        return engine

    return Session(MODEL, acquire, Conversation.beginning_with("system"))


async def ask(session: Session, prompt: str) -> Outcome:
    outcome = await (await session.generate({"prompt": prompt})).finished
    return outcome


async def test_a_cut_is_remembered_and_the_history_stays_whole(session: Session, engine: FakeEngine) -> None:
    await ask(session, "a")
    engine.drops = 2
    await ask(session, "b")
    await ask(session, "c")
    assert [given["dropped"] for given in engine.given] == [0, 0, 2]
    assert engine.given[-1]["messages"] == ["system", "a", "yes", "b", "yes", "c"]
    said = [message.content for message in session.conversation.context()]
    assert said == [*engine.given[-1]["messages"], "yes"]
    assert {given["overflow"] for given in engine.given} == {"trim"}


async def test_a_failed_answer_does_not_forget_the_cut(session: Session, engine: FakeEngine) -> None:
    engine.drops = 4
    await ask(session, "a")
    engine.error = ContextFull(9, 8)
    await ask(session, "b")
    engine.error = None
    await ask(session, "c")
    assert [given["dropped"] for given in engine.given] == [0, 4, 4]


@pytest.mark.parametrize(
    "replace", [lambda s: s.clear(), lambda s: s.set_context([Entry(Message("user", "z"))])]
)
async def test_a_replaced_conversation_begins_at_its_own_beginning(
    session: Session, engine: FakeEngine, replace: Any
) -> None:
    engine.drops = 2
    await ask(session, "a")
    replace(session)
    await ask(session, "b")
    assert engine.given[-1]["dropped"] == 0


async def test_a_cut_of_a_conversation_replaced_meanwhile_is_not_taken_over(
    session: Session, engine: FakeEngine
) -> None:
    engine.drops = 2
    generation = await session.generate({"prompt": "a"})
    session.clear()
    await generation.finished
    await ask(session, "b")
    assert engine.given[-1]["dropped"] == 0


async def test_an_answer_is_cancelled_while_its_model_loads(engine: FakeEngine) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def acquire(_: object, progress: ProgressCallback) -> Any:
        begun.set()
        await go_on.wait()
        progress(Progress("loading", 1, 2))
        return engine

    session = Session(MODEL, acquire)
    generation = await session.generate({"prompt": "a"})
    await begun.wait()
    generation.cancel()
    assert (await asyncio.wait_for(generation.finished, 10)).reason == "cancelled"
    go_on.set()
    assert (await ask(session, "b")).text == "yes", "the model was loaded on"
    with generation.stream as stream:
        assert stream.recv(1 << 16) == frames.encode(frames.end("cancelled"))
        assert stream.recv(1) == b""
    assert len(engine.given) == 1


async def test_who_gets_less_than_was_planned_is_told(session: Session, engine: FakeEngine) -> None:
    engine.stepped_down = "The card is full."
    generation = await session.generate({"prompt": "a"})
    generation.stream, stream = generation.stream.dup(), generation.stream
    with stream:
        await generation.finished
        told = json.loads(stream.recv(1000))
    assert told == {"type": "notice", "code": "stepped-down", "reason": "The card is full."}


# --- a worker that dies over an answer ----------------------------------------------------------------


class MortalEngine:
    """Dies the first ``deaths`` times, after having said something if ``speaks``; then answers "yes"."""

    def __init__(self, deaths: int, *, speaks: bool = False) -> None:
        self.deaths, self._speaks, self.asked = deaths, speaks, 0

    def news(self) -> str:
        return ""

    def generate(self, generation: Generation, *_: object, **__: object) -> None:
        self.asked += 1
        pending = PendingRequests()
        request_id = pending.stream(generation)
        if self.asked > self.deaths:
            pending.settle({"event": "finished", "id": request_id, "reason": "stop", "text": "yes"})
            return
        if self._speaks:  # through a copy of the socket, as a worker has one
            with socket.socket(fileno=os.dup(generation.fileno())) as copy:
                first_text.note(copy)
        pending.end(WorkerDied("m", "SIGKILL"))


def mortal_session(engine: MortalEngine) -> Session:
    async def acquire(*_: object) -> Any:
        return engine

    return Session(MODEL, acquire)


async def test_a_death_before_the_first_word_costs_one_more_try_and_no_error() -> None:
    engine = MortalEngine(1)
    session = mortal_session(engine)
    generation = await session.generate({"prompt": "a"})
    with generation.stream:
        outcome = await generation.finished
        generation.stream.setblocking(False)
        assert generation.stream.recv(1000) == b"", "the client was told something"
    assert (outcome.reason, outcome.text, engine.asked) == ("stop", "yes", 2)
    assert [message.content for message in session.conversation.context()] == ["a", "yes"]


@pytest.mark.parametrize(("deaths", "speaks", "asked"), [(2, False, 2), (1, True, 1)])
async def test_a_second_death_or_one_in_the_middle_of_the_answer_is_an_error(
    deaths: int, speaks: bool, asked: int
) -> None:
    engine = MortalEngine(deaths, speaks=speaks)
    generation = await mortal_session(engine).generate({"prompt": "a"})
    with generation.stream:
        outcome = await generation.finished
    assert isinstance(outcome.error, WorkerDied)
    assert engine.asked == asked


async def test_what_was_cancelled_is_not_asked_again() -> None:
    engine = MortalEngine(1)
    real = engine.generate

    def cancelled_meanwhile(generation: Generation, *rest: object, **more: object) -> None:
        generation.cancelled = True
        real(generation, *rest, **more)

    engine.generate = cancelled_meanwhile  # type: ignore[method-assign]
    generation = await mortal_session(engine).generate({"prompt": "a"})
    with generation.stream:
        await generation.finished
    assert engine.asked == 1
