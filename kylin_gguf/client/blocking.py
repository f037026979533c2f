"""The client for programs without an event loop: one runs in a thread of its own.

Every method waits for its coroutine in ``bus.client``, and raises as that does. A client and what comes from
it may be used from several threads. An interruption (Ctrl-C) ends the wait and cancels what was waited for,
except in an answer: that goes on until it is cancelled or closed.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from kylin_gguf import config
from kylin_gguf.bus.client import Client
from kylin_gguf.bus.client_session import Answer, ClientSession, failure_of
from kylin_gguf.frames import Frame
from kylin_gguf.records import Entry, Message, ProgressCallback, no_progress

T = TypeVar("T")


class _Call(Generic[T]):
    """What a coroutine comes to, waited for outside its loop.

    An interruption is raised between any two instructions of Python: within a ``concurrent.futures.Future``
    it can leave the lock behind that the loop then waits for. Here nothing is lost by one, and ``result`` can
    be asked again.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, T]) -> None:
        self._loop, self._coroutine = loop, coroutine
        self._task: asyncio.Task[T] | None = None
        self._ended = False
        self._waiting = threading.Lock()  # taken until the end; of C, and so never half taken
        self._waiting.acquire()

    def result(self) -> T:
        """Have the coroutine run, if it does not yet, and wait for its end; raises what it raises."""
        self._loop.call_soon_threadsafe(self._begin)
        while not self._ended:
            with self._waiting:  # let go again, for other threads that wait
                pass
        assert self._task is not None, "it has ended"
        return self._task.result()

    def cancel(self) -> None:
        """End the coroutine, begun or not."""
        self._loop.call_soon_threadsafe(self._drop)

    def _begin(self) -> None:
        if self._task is None:
            self._task = self._loop.create_task(self._coroutine)
            self._task.add_done_callback(self._end)

    def _end(self, _: asyncio.Task[T]) -> None:
        self._ended = True
        self._waiting.release()

    def _drop(self) -> None:
        if self._task is None:
            self._coroutine.close()
        else:
            self._task.cancel()


class _Loop:
    """An event loop in a thread that does not keep the program from ending."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="kylin-gguf", daemon=True)
        self._thread.start()

    def call(self, coroutine: Coroutine[Any, Any, T]) -> _Call[T]:
        return _Call(self._loop, coroutine)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        call = self.call(coroutine)
        try:
            return call.result()
        except BaseException:
            call.cancel()  # does nothing when it was the coroutine that failed
            raise

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class BlockingClient:
    """A connection to the service. Use as a context manager, or call ``close``."""

    def __init__(self, *, start: bool = True) -> None:
        """Connect; with ``start``, start the service when it does not run.

        Raises:
            ServiceUnavailable: it does not run, or could not be started.
        """
        self._loop = _Loop()
        try:
            self._client = self._loop.run(Client.connect(config.load(), start=start))
        except BaseException:
            self._loop.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave the bus. The service then stops everything this client had running."""
        self._loop.run(self._client.close())
        self._loop.stop()

    # --- Models -----------------------------------------------------------------------------------

    def list_models(self) -> list[dict[str, Any]]:
        """Return what ListModels returns, as plain dictionaries."""
        return self._loop.run(self._client.list_models())

    def properties(self) -> dict[str, Any]:
        """Return the Manager's properties."""
        return self._loop.run(self._client.properties())

    def statistics(self) -> dict[str, Any]:
        """Return what GetStatistics returns, as plain dictionaries; lists may be empty."""
        return self._loop.run(self._client.statistics())

    def pull(self, name: str, progress: ProgressCallback = no_progress) -> None:
        """Download a model; ``progress`` is called in another thread."""
        self._loop.run(self._client.pull(name, progress))

    def load(self, name: str = "", progress: ProgressCallback = no_progress) -> None:
        """Load a model; ``progress`` is called in another thread."""
        self._loop.run(self._client.load(name, progress))

    def prewarm(self, name: str = "") -> None:
        """Make the next request quick; returns when all is ready."""
        self._loop.run(self._client.prewarm(name))

    def unload(self, name: str) -> None:
        """End the process that holds a model."""
        self._loop.run(self._client.unload(name))

    def remove(self, name: str) -> None:
        """Unload and delete a model."""
        self._loop.run(self._client.remove(name))

    def embed(self, texts: Sequence[str], model: str = "") -> list[list[float]]:
        """Return one vector for each of ``texts``, in order, each of Euclidean length 1."""

        async def collect() -> list[list[float]]:
            return [vector async for vector in self._client.embed(texts, model)]

        return self._loop.run(collect())

    # --- Conversations and commands ---------------------------------------------------------------

    def create_session(
        self, model: str = "", system: str = "", overflow: str = "", *, keep: bool = False
    ) -> BlockingSession:
        """Begin a conversation, as ``Client.create_session``."""
        making = self._client.create_session(model, system, overflow, keep=keep)
        return BlockingSession(self._loop, self._loop.run(making))

    def open_session(self, session_id: str, model: str = "") -> BlockingSession:
        """Go on with a kept conversation; empty: with the model that it had."""
        return BlockingSession(self._loop, self._loop.run(self._client.open_session(session_id, model)))

    def ask(self, session_id: str, prompt: str, **options: object) -> str:
        """Return the answer of one turn of a kept conversation that nobody has open."""
        return self._loop.run(self._client.ask(session_id, prompt, **options))

    def list_sessions(self) -> list[dict[str, Any]]:
        """Return what ListSessions returns, as plain dictionaries."""
        return self._loop.run(self._client.list_sessions())

    def delete_session(self, session_id: str) -> None:
        """Delete a kept conversation."""
        self._loop.run(self._client.delete_session(session_id))

    def interpret(self, utterance: str, model: str = "") -> dict[str, Any]:
        """Return the command for ``utterance``, as the JSON object of ``kylin-gguf act``."""
        return self._loop.run(self._client.interpret(utterance, model))

    def execute(
        self, command: str, arguments: Mapping[str, object], *, confirmed: bool = False
    ) -> dict[str, Any]:
        """Have a command carried out, as ``Client.execute``."""
        return self._loop.run(self._client.execute(command, arguments, confirmed=confirmed))

    def list_commands(self) -> list[dict[str, Any]]:
        """Return the commands that ``interpret`` can answer with."""
        return self._loop.run(self._client.list_commands())


class BlockingSession:
    """A conversation. Made by ``BlockingClient.create_session`` or ``open_session``."""

    def __init__(self, loop: _Loop, session: ClientSession) -> None:
        self._loop, self._session = loop, session

    def generate(self, prompt: str, **options: object) -> BlockingAnswer:
        """Start an answer; ``options`` are ``mode`` and those of ``SamplingOptions``."""
        return BlockingAnswer(self._loop, self._loop.run(self._session.generate(prompt, **options)))

    def complete(self, prompt: str, **options: object) -> str:
        """Return a whole answer."""
        return self._loop.run(self._session.complete(prompt, **options))

    def model(self) -> str:
        """Return the name of the model that this conversation is with."""
        return self._loop.run(self._session.model())

    def remote(self) -> str:
        """Return the server that answers in this conversation, empty where this machine does."""
        return self._loop.run(self._session.remote())

    def set_model(self, model: str) -> None:
        """Have another model give the next answers."""
        self._loop.run(self._session.set_model(model))

    def kept_as(self) -> str:
        """Return the id that ``open_session`` takes; empty when the session is not kept."""
        return self._loop.run(self._session.kept_as())

    def entries(self) -> list[Entry]:
        """Return the conversation so far."""
        return self._loop.run(self._session.entries())

    def set_context(self, messages: Sequence[Message | Entry]) -> None:
        """Replace the conversation; those without an id get one."""
        self._loop.run(self._session.set_context(messages))

    def select_context(self, ids: Sequence[int]) -> None:
        """Have answers given from the messages with these ids, and from what comes."""
        self._loop.run(self._session.select_context(ids))

    def clear(self) -> None:
        """Forget the conversation."""
        self._loop.run(self._session.clear())

    def export(self) -> dict[str, Any]:
        """Return the conversation as the JSON object that ``import_`` takes."""
        return self._loop.run(self._session.export())

    def import_(self, document: Mapping[str, Any]) -> None:
        """Replace the conversation by one that was exported; raises InvalidValue for anything else."""
        self._loop.run(self._session.import_(document))

    def close(self) -> None:
        """End the session."""
        self._loop.run(self._session.close())


class BlockingAnswer:
    """The frames of one answer, as an iterator that ends after the ``end`` frame.

    An interruption loses no frame: iteration can go on.
    """

    def __init__(self, loop: _Loop, answer: Answer) -> None:
        self._loop, self._answer = loop, answer
        self._frames: AsyncIterator[Frame] = aiter(answer)
        self._next: _Call[Frame | None] | None = None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Frame:
        """Return the next frame; raises ServiceUnavailable when the stream breaks off."""
        self._next = self._next or self._loop.call(self._advance())
        frame = self._next.result()
        self._next = None
        if frame is None:
            raise StopIteration
        return frame

    async def _advance(self) -> Frame | None:
        return await anext(self._frames, None)

    def texts(self) -> Iterator[str]:
        """Yield the pieces of the answer.

        Raises:
            KylinError: the answer's error; Cancelled when it was stopped.
        """
        for frame in self:
            failure = failure_of(frame)
            if failure is not None:
                raise failure
            if frame["type"] == "text":
                yield frame["text"]

    def confirm(self, consent: bool) -> None:
        """Answer a ``confirm`` frame; raises NothingToConfirm when it comes too late."""
        self._loop.run(self._answer.confirm(consent))

    def cancel(self) -> None:
        """Stop the answer; its last frame is still to be read."""
        self._loop.run(self._answer.cancel())

    def close(self) -> None:
        """Read no more of the answer, which stops it. Harmless after its end."""
        self._loop.run(self._answer.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
