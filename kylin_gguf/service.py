"""The product's logic behind every front end: models, conversations, commands."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from kylin_gguf import call_options, statistics, text_vectors
from kylin_gguf.conversations import Conversation, Database
from kylin_gguf.conversion import Conversion, Converter
from kylin_gguf.errors import InvalidValue
from kylin_gguf.execution import CallExecutor, Journal, Route, no_executors
from kylin_gguf.jobs import Job, run_async, run_in_thread
from kylin_gguf.kept_sessions import KeptSessions
from kylin_gguf.offload import machine
from kylin_gguf.pool import EnginePool
from kylin_gguf.records import (
    ADAPTER,
    OVERFLOWS,
    Execution,
    ExecutorAddress,
    InstalledModel,
    LoadedModel,
    Model,
    Power,
    Progress,
    ProgressCallback,
    Settings,
)
from kylin_gguf.sessions import MakeAssistant, Session
from kylin_gguf.store import Store
from kylin_gguf.understanding import Understanding

if TYPE_CHECKING:
    from kylin_gguf.actuator.collection import Collection
    from kylin_gguf.actuator.interpret import Interpretation
    from kylin_gguf.assistant import Assistant
    from kylin_gguf.model_states import ModelStates

_SESSION_OPTIONS = ("model", "system", "overflow", "keep")
_OPEN_OPTIONS = ("model",)
_INTERPRET_OPTIONS = ("model",)
_LOAD_OPTIONS = ("learn",)
_EXECUTE_OPTIONS = ("confirmed",)


class Service:
    """What front ends call. Lives on one event loop; nothing in it blocks that loop for long."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings, self._store = settings, store
        self._pool = EnginePool(settings)
        self._pool.on_change = lambda: self.on_change("LoadedModels")
        self.kept = KeptSessions(Database(settings.state_dir / "sessions" / "sessions.sqlite3"))
        """The sessions that outlive this process."""
        self._jobs: set[Job[Any]] = set()
        self._devices: list[dict[str, Any]] | None = None
        self._understanding = Understanding(settings)
        self._journal = Journal()
        self._converter = Converter(settings.models_dir, lambda: self._pool.busy)
        self.on_change: Callable[[str], None] = lambda _: None
        """Called with ``LoadedModels`` or ``DefaultModel`` when that has changed."""
        self.call_executor: CallExecutor = no_executors

    # --- models -------------------------------------------------------------------------------------

    async def models(self) -> list[dict[str, Any]]:
        """Return every model of the catalogue and every other installed one, as JSON objects."""
        rows = await asyncio.to_thread(self._store.listing)
        loaded = {model.reference for model in self.loaded()}
        return [row | {"loaded": (row["path"] or row["name"]) in loaded} for row in rows]

    def loaded(self) -> tuple[LoadedModel, ...]:
        """Return what worker processes hold now."""
        return self._pool.loaded()

    async def statistics(self) -> dict[str, Any]:
        """Return what goes on now, as the JSON object of ``GetStatistics``."""
        return await statistics.read(self._pool, self._journal.entries())

    def heed_power(self, power: Power) -> None:
        """Take in where the machine's power comes from; answers may then take less of it (the setting
        ``power``)."""
        self._pool.heed_power(power)

    def default_model(self) -> str:
        """Return the model that is used when none is named; empty when none is installed."""
        return self._store.default_name()

    async def devices(self) -> list[dict[str, Any]]:
        """Return the devices of every back end, as JSON objects; memory as it was first seen.

        A back end that does not load is one too, of the kind ``failed``, described by the reason.

        Looking starts a process, and every program that introspects the service reads this property.
        """
        if self._devices is None:
            found = await asyncio.to_thread(machine.probe, self._settings)
            failed = (
                {"name": plugin.name, "description": plugin.reason, "kind": "failed"}
                | {"memory_total": 0, "memory_free": 0}
                for plugin in found.failed
            )
            self._devices = [*map(asdict, found.devices), *failed]
        return self._devices

    async def plan(self, model: str, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return where ``model`` would go, with reasons, as a JSON object."""
        return (await self._pool.plan(await self._resolve_local(model, "a plan"), options)).to_json()

    def load(self, model: str, options: Mapping[str, Any]) -> Job[None]:
        """Load ``model``, and make it ready for commands if it has learnt them; with the option ``learn``, it
        learns them first.

        Raises:
            InvalidValue, UnknownOption: wrong ``options``.
        """
        call_options.refuse_unknown(options, _LOAD_OPTIONS)
        learn = call_options.flag(options, "learn")

        async def work(progress: ProgressCallback) -> None:
            found = await (self._resolve_local(model, "commands") if learn else self._resolve(model))
            await self._pool.acquire(found, progress)
            if learn:
                await (await self._understanding.ready()).learn(self._states(model), progress)
            if isinstance(found, InstalledModel):
                await self._understanding.recall(self._states(model))

        return self._track(run_async("load", work, model))

    def pull(self, name: str) -> Job[InstalledModel]:
        """Fetch and install the catalogue's ``name``."""

        def work(progress: ProgressCallback, cancelled: Callable[[], bool]) -> InstalledModel:
            return self._store.pull(name, progress, cancelled)

        job = self._track(run_in_thread("pull", work, name))
        job.result.add_done_callback(lambda _: self.on_change("DefaultModel"))
        return job

    def convert(self, source: str, options: Mapping[str, Any]) -> Job[InstalledModel]:
        """Convert ``source`` into one of the user's models; the job's last detail is its name.

        Raises:
            InvalidValue, UnknownOption: as ``Conversion.from_options``.
        """
        wanted = Conversion.from_options(source, options)

        async def work(progress: ProgressCallback) -> InstalledModel:
            path = await self._converter.convert(wanted, progress)
            made = await asyncio.to_thread(self._store.resolve, str(path))
            progress(Progress(made.name, 1, 1))
            return made

        job = self._track(run_async("convert", work, source))
        job.result.add_done_callback(lambda _: self.on_change("DefaultModel"))
        return job

    def _track(self, job: Job[Any]) -> Job[Any]:
        self._jobs.add(job)
        job.result.add_done_callback(lambda _: self._jobs.discard(job))
        return job

    async def unload(self, model: str) -> None:
        """Unload ``model``; its streams end ``cancelled``."""
        await self._pool.unload(await self._resolve(model))

    async def remove(self, name: str) -> None:
        """Unload and delete the installed model ``name``."""
        await self._pool.unload(await self._resolve_local(name, "a file to delete"))
        await asyncio.to_thread(self._store.remove, name)
        self.on_change("DefaultModel")

    async def prewarm(self, model: str) -> None:
        """Make ready for a chat or a command that comes soon; errors are raised as for ``load``.

        Raises:
            NotLocal: a server has the model: it is asked nothing that nobody has said.
        """
        await self._resolve_local(model, "a head start")
        await (await self._understanding.ready()).prewarm(self._states(model))

    async def _resolve(self, model: str) -> Model:
        if model:
            return await asyncio.to_thread(self._store.find, model)
        return await asyncio.to_thread(self._store.default)

    async def _resolve_local(self, model: str, purpose: str) -> InstalledModel:
        if model:
            return await asyncio.to_thread(self._store.resolve, model, purpose)
        return await asyncio.to_thread(self._store.default)

    # --- conversations and commands -----------------------------------------------------------------

    async def create_session(self, options: Mapping[str, Any]) -> Session:
        """Begin a conversation. ``options``: ``model`` (default: the default model), ``system``,
        ``overflow``, one of OVERFLOWS, and ``keep``, whether it outlives the service.

        Raises:
            UnknownOption, InvalidValue: bad ``options``.
            KylinError: as ``Store.resolve`` and ``Database.add``.
        """
        call_options.refuse_unknown(options, _SESSION_OPTIONS)
        keep = call_options.flag(options, "keep")
        wanted = call_options.text(options, "overflow", OVERFLOWS[0])
        overflow = next((known for known in OVERFLOWS if known == wanted), None)
        if overflow is None:
            raise InvalidValue("overflow", wanted, " or ".join(OVERFLOWS))
        conversation = Conversation.beginning_with(call_options.text(options, "system"))
        model = await self._resolve(call_options.text(options, "model"))
        session = Session(model, self._pool.acquire, conversation, overflow, self._make_assistant(model))
        if keep:
            self.kept.keep(session)
        return session

    async def open_session(self, session_id: str, options: Mapping[str, Any]) -> Session:
        """Go on with a kept conversation; ``options`` may hold another ``model``.

        Raises:
            UnknownOption, InvalidValue: bad ``options``.
            UnknownKeptSession, KeptSessionsUnusable: as ``Database.get``.
            ModelError: its model is not there any more, and no other was named.
        """
        call_options.refuse_unknown(options, _OPEN_OPTIONS)
        named = call_options.text(options, "model")
        model = await self._resolve(named or self.kept.get(session_id).reference)
        kept = self.kept.get(session_id)  # as it is now
        assistant = self._make_assistant(model)
        session = Session(model, self._pool.acquire, kept.conversation, kept.overflow, assistant)
        self.kept.attach(session, session_id)
        return session

    async def switch_model(self, session: Session, model: str) -> None:
        """Have ``model`` give the next answers of ``session``; errors as of ``Store.resolve``."""
        found = await self._resolve(model)
        session.switch_model(found, self._make_assistant(found))

    def _make_assistant(self, model: Model) -> MakeAssistant | None:
        return partial(self._assistant, model) if isinstance(model, InstalledModel) else None

    async def _assistant(self, model: InstalledModel) -> Assistant:
        from kylin_gguf.assistant import Assistant, Means  # noqa: PLC0415 - as in ``understanding``
        from kylin_gguf.model_states import ModelStates  # noqa: PLC0415

        interpreter = await self._understanding.ready()

        async def interpret(said: str, progress: ProgressCallback) -> Interpretation:
            async def find() -> InstalledModel:
                return model

            return await interpreter.interpret(said, ModelStates(self._pool, find, progress))

        def call(executor: ExecutorAddress, command: Mapping[str, Any]) -> Awaitable[Execution]:
            return self.call_executor(executor, command)

        return Assistant(Means(lambda: self.catalogues.catalogue, self._route, call), interpret)

    async def embed(self, model: str, texts: Sequence[str]) -> list[list[float]]:
        """Return one vector for each of ``texts``, in order; errors as of ``text_vectors.make``."""
        return await text_vectors.make(self._pool, self._store, model, texts)

    async def interpret(self, utterance: str, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the command that ``utterance`` asks for, as the JSON object of ``kylin-gguf act``."""
        call_options.refuse_unknown(options, _INTERPRET_OPTIONS)
        model = call_options.text(options, "model")
        if model:
            await self._resolve_local(model, "commands")
        interpreter = await self._understanding.ready()
        return (await interpreter.interpret(utterance, self._states(model))).to_json()

    def _states(self, model: str) -> ModelStates:
        from kylin_gguf.model_states import ModelStates  # noqa: PLC0415 - as in ``understanding``

        return ModelStates(self._pool, lambda: self._resolve_local(model, "commands"))

    async def execute(
        self, command_id: str, arguments: Mapping[str, Any], options: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Have a command carried out; return what came of it, as a JSON object.

        Raises:
            InvalidValue, UnknownOption: no such command, wrong ``arguments`` or ``options``.
            ConfirmationNeeded, ExecutorFailed, ExecutorTimeout: as ``execution.Route.execute``.
        """
        call_options.refuse_unknown(options, _EXECUTE_OPTIONS)
        confirmed = call_options.flag(options, "confirmed")
        await self._understanding.ready()
        route = self._route(command_id)
        return (await route.execute(arguments, self.call_executor, confirmed=confirmed)).to_json()

    def _route(self, command_id: str) -> Route:
        command = self.catalogues.catalogue.get(command_id)
        executor, known_as = self.catalogues.executor(command_id)
        return Route(command, executor or ADAPTER, known_as, self._journal)

    @property
    def catalogues(self) -> Collection:
        """The command catalogues: the desktop's own, and those that clients register."""
        return self._understanding.collection

    def commands(self) -> list[dict[str, Any]]:
        """Return every command of every catalogue, as JSON objects."""
        unavailable = self.catalogues.unavailable
        return [
            command.to_json() | {"available": command.id not in unavailable}
            for command in self.catalogues.catalogue.commands
        ]

    # --- life ---------------------------------------------------------------------------------------

    @property
    def answering(self) -> bool:
        """Whether somebody waits for a model."""
        return self._pool.busy

    def busy(self) -> bool:
        """Whether a request or a job runs, or a client's catalogue would be missed."""
        return self._pool.busy or bool(self._jobs) or self._understanding.keeps_alive

    async def close(self) -> None:
        """End streams and jobs, stop workers."""
        for job in list(self._jobs):
            job.cancel()
        await self._understanding.close()
        await self._pool.close()
        self.kept.close()
