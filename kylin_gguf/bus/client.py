"""The service as seen by a program: typed calls that raise our exceptions."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from dbus_next.message import Message as BusMessage

from kylin_gguf.bus import errors, names, private, values
from kylin_gguf.bus.client_session import SHORT_CALL_S, ClientSession
from kylin_gguf.bus.connection import LOST, Connection
from kylin_gguf.errors import ServiceUnavailable
from kylin_gguf.records import Progress, ProgressCallback, Settings, no_progress

MAX_UNCLAIMED = 256
EXECUTE_CALL_S = 35.0
TEXTS_PER_CALL = 64


@dataclass
class _Waiting:
    """A job that this client waits for."""

    progress: ProgressCallback
    completed: asyncio.Future[tuple[bool, str, str]]

    def receive(self, signal: BusMessage) -> None:
        if signal.member == "Completed" and not self.completed.done():
            self.completed.set_result((signal.body[0], signal.body[1], signal.body[2]))
        elif signal.member == "PropertiesChanged":
            state = values.plain(signal.body[1])
            share = round(state.get("Progress", 0.0) * 1000)
            self.progress(Progress(state.get("Detail", ""), share, 1000, "permille"))


class Client:
    """A connection to the service. Use as an async context manager, or call ``close``."""

    def __init__(self, connection: Connection, owner: str) -> None:
        self._connection = connection
        self._owner = owner
        self._jobs: dict[str, _Waiting] = {}
        # A job's first signals can be read from the socket before the code that awaits its reply goes on.
        self._unclaimed: deque[BusMessage] = deque(maxlen=MAX_UNCLAIMED)
        connection.on_signal = self._on_signal
        connection.lost.add_done_callback(lambda _: self._fail_jobs(LOST))

    @classmethod
    async def connect(cls, settings: Settings, *, start: bool = True) -> Self:
        """Connect to the service; with ``start``, start it and even a bus when there is none.

        Raises:
            ServiceUnavailable: it does not run, or could not be started.
        """
        connection = await private.connect(settings, start=start)
        client = cls(connection, (await connection.daemon("GetNameOwner", "s", [names.BUS_NAME]))[0])
        await connection.watch(names.BUS_NAME, client._on_owner)
        return client

    def _on_owner(self, owner: str) -> None:
        self._owner = owner
        self._fail_jobs("it has ended")

    def _fail_jobs(self, reason: str) -> None:
        for waiting in self._jobs.values():
            if not waiting.completed.done():
                waiting.completed.set_exception(ServiceUnavailable(reason))

    def _on_signal(self, signal: BusMessage) -> None:
        if signal.sender != self._owner:  # anyone on the bus can send us a signal
            return
        if signal.path in self._jobs:
            self._jobs[signal.path].receive(signal)
        else:
            self._unclaimed.append(signal)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Leave the bus. The service then stops everything this client had running."""
        await self._connection.close()

    async def call(
        self,
        interface: str,
        member: str,
        *arguments: object,
        path: str = names.ROOT,
        timeout: float | None = None,
    ) -> BusMessage:
        """Call a method of the service; ``arguments`` are pairs of signature and value.

        Raises:
            KylinError: of the class that the service's error name stands for.
        """
        kinds, given = "".join(str(a) for a in arguments[::2]), arguments[1::2]
        message = BusMessage(
            names.BUS_NAME, path, interface, member, signature=kinds, body=values.body(kinds, given)
        )
        return await self._connection.call(message, timeout)

    async def _result(self, interface: str, member: str, *arguments: object) -> Any:
        reply = await self.call(interface, member, *arguments)
        return values.plain(reply.body[0]) if reply.body else None

    # --- Models -----------------------------------------------------------------------------------

    async def list_models(self) -> list[dict[str, Any]]:
        """Return what ListModels returns, as plain dictionaries."""
        listed: list[dict[str, Any]] = await self._result(names.MANAGER, "ListModels")
        return listed

    async def properties(self) -> dict[str, Any]:
        """Return the Manager's properties."""
        found: dict[str, Any] = await self._result(names.PROPERTIES, "GetAll", "s", names.MANAGER)
        return found

    async def statistics(self) -> dict[str, Any]:
        """Return what GetStatistics returns, as plain dictionaries; lists may be empty."""
        found: dict[str, Any] = await self._result(names.MANAGER, "GetStatistics")
        return {"models": [], "commands": []} | found

    async def pull(self, name: str, progress: ProgressCallback = no_progress) -> None:
        """Download a model; cancelling the task cancels the download."""
        await self._job("Pull", name, progress)

    async def convert(
        self,
        source: str,
        quantisation: str = "",
        progress: ProgressCallback = no_progress,
        *,
        replace: bool = False,
    ) -> None:
        """Convert ``source`` into an installed model; cancelling the task cancels it."""
        options = {"quantisation": quantisation or None, "replace": replace or None}
        await self._job("Convert", source, progress, options)

    async def load(
        self, name: str = "", progress: ProgressCallback = no_progress, *, learn: bool = False
    ) -> None:
        """Load a model and, with ``learn``, have it learn the commands; cancelling the task cancels it."""
        await self._job("Load", name, progress, {"learn": learn or None})

    async def prewarm(self, name: str = "") -> None:
        """Make the next request quick; returns when all is ready."""
        await self.call(names.MANAGER, "Prewarm", "s", name)

    async def unload(self, name: str) -> None:
        """End the process that holds a model."""
        await self.call(names.MANAGER, "Unload", "s", name)

    async def remove(self, name: str) -> None:
        """Unload and delete a model."""
        await self.call(names.MANAGER, "Remove", "s", name)

    async def _job(
        self, member: str, name: str, progress: ProgressCallback, options: Mapping[str, Any] | None = None
    ) -> None:
        path = str(await self._result(names.MANAGER, member, "s", name, "a{sv}", options or {}))
        waiting = self._jobs[path] = _Waiting(progress, asyncio.get_running_loop().create_future())
        for signal in self._unclaimed:
            if signal.path == path:
                waiting.receive(signal)
        try:
            success, error_name, text = await waiting.completed
        except asyncio.CancelledError:
            await self.call(names.JOB, "Cancel", path=path, timeout=SHORT_CALL_S)
            raise
        finally:
            del self._jobs[path]
        if not success:
            raise errors.from_bus(error_name, text)

    async def embed(self, texts: Sequence[str], model: str = "") -> AsyncIterator[list[float]]:
        """Yield one vector for each of ``texts``, in order, each of Euclidean length 1.

        Texts are sent a few at a time: any number is fine, and none are sent once iteration stops.
        """
        for start in range(0, len(texts), TEXTS_PER_CALL):
            given = list(texts[start : start + TEXTS_PER_CALL])
            for vector in await self._result(names.MANAGER, "Embed", "s", model, "as", given, "a{sv}", {}):
                yield vector

    # --- Conversations and commands ---------------------------------------------------------------

    async def create_session(
        self, model: str = "", system: str = "", overflow: str = "", *, keep: bool = False
    ) -> ClientSession:
        """Begin a conversation; empty: the default model, the model's own system message, ``trim``.

        One to ``keep`` is written down and found again by ``open_session``.
        """
        texts = {"model": model or None, "system": system or None, "overflow": overflow or None}
        path = await self._result(names.MANAGER, "CreateSession", "a{sv}", texts | {"keep": keep or None})
        return ClientSession(self.call, str(path))

    async def open_session(self, session_id: str, model: str = "") -> ClientSession:
        """Go on with a kept conversation; empty: with the model that it had."""
        given = ("s", session_id, "a{sv}", {"model": model or None})
        return ClientSession(self.call, str(await self._result(names.MANAGER, "OpenSession", *given)))

    async def ask(self, session_id: str, prompt: str, **options: object) -> str:
        """Return the answer of one turn of a kept conversation that nobody has open."""
        return str(await self._result(names.MANAGER, "Ask", "s", session_id, "s", prompt, "a{sv}", options))

    async def list_sessions(self) -> list[dict[str, Any]]:
        """Return what ListSessions returns, as plain dictionaries."""
        listed: list[dict[str, Any]] = await self._result(names.MANAGER, "ListSessions")
        return listed

    async def delete_session(self, session_id: str) -> None:
        """Delete a kept conversation."""
        await self.call(names.MANAGER, "DeleteSession", "s", session_id)

    async def interpret(self, utterance: str, model: str = "") -> dict[str, Any]:
        """Return the command for ``utterance``, as the JSON object of ``kylin-gguf act``."""
        given = {"model": model or None}
        found = await self._result(names.ACTUATOR, "Interpret", "s", utterance, "a{sv}", given)
        empty: dict[str, Any] = {
            "command": None,
            "arguments": {},
            "kylin": None,
            "confidence": 0.0,
            "alternatives": [],
        }
        return {key: found.get(key, empty.get(key)) for key in (*empty, *found)}

    async def execute(
        self, command: str, arguments: Mapping[str, object], *, confirmed: bool = False
    ) -> dict[str, Any]:
        """Have a command carried out; return status, value, reason and text as far as there are any.

        Raises:
            ConfirmationNeeded: it needs the user's yes, and ``confirmed`` is false.
            ExecutorFailed, ExecutorTimeout: nobody has said what came of it.
        """
        given = ("s", command, "a{sv}", arguments, "a{sv}", {"confirmed": confirmed})
        reply = await self.call(names.ACTUATOR, "Execute", *given, timeout=EXECUTE_CALL_S)
        result: dict[str, Any] = values.plain(reply.body[0])
        return result

    async def list_commands(self) -> list[dict[str, Any]]:
        """Return the commands that ``interpret`` can answer with."""
        commands: list[dict[str, Any]] = await self._result(names.ACTUATOR, "ListCommands")
        return commands
