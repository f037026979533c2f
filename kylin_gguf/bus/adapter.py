"""The adapter's process: carries commands out for the service, and lives as long as it does."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Mapping
from typing import Any

from dbus_next.message import Message

from kylin_gguf.actuator.shipped import load_commands
from kylin_gguf.adapter import applications
from kylin_gguf.adapter.executor import Executor
from kylin_gguf.adapter.extras import APPLICATIONS, NAME, Extras
from kylin_gguf.bus import contract, dispatch, names, values
from kylin_gguf.bus.connection import LOST, Connection
from kylin_gguf.bus.contract import Interface
from kylin_gguf.bus.desktop import Desktop
from kylin_gguf.bus.dispatch import Dispatcher
from kylin_gguf.bus.registry import Published, Registry
from kylin_gguf.errors import AccessDenied, InvalidValue, KylinError, ServiceUnavailable
from kylin_gguf.records import ADAPTER, Settings

log = logging.getLogger(__name__)

GRACE_S = 10.0
"""How long the adapter waits for a service that has gone: one that crashed is started anew by then."""
LOOK_EVERY_S = 10.0
"""How often applications that were installed or removed are looked for."""
REGISTER_TIMEOUT_S = 60.0
EXTRAS_PATH = f"{ADAPTER.path}/{NAME.capitalize()}"
"""Where the commands of ``extras`` are carried out."""
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class ExecutorObject(Published):
    """``org.openkylin.GgufEngine1.Executor`` around an ``Executor``. It obeys the service alone."""

    interfaces = (names.EXECUTOR,)

    def __init__(self, registry: Registry, path: str, executor: Executor) -> None:
        super().__init__(registry, path)
        self._executor = executor
        self.service = ""
        """The unique name of the service; empty while there is none."""

    async def execute(self, caller: str, command: dict[str, Any]) -> dict[str, Any]:
        """Method Execute."""
        if not caller or caller != self.service:
            raise AccessDenied(self.path)
        arguments = command.get("arguments", {})
        if not isinstance(arguments, dict):
            raise InvalidValue("arguments", str(arguments)[:80], "values by name")
        return (await self._executor.execute(str(command.get("command")), arguments)).to_json()


class Adapter:
    """The adapter on one bus connection; made by ``start``."""

    def __init__(
        self, connection: Connection, settings: Settings, interfaces: Mapping[str, Interface]
    ) -> None:
        self.connection = connection
        self._desktop = Desktop(connection)
        self._registry = Registry(connection, interfaces)
        self._dispatcher = Dispatcher(self._registry)
        dispatch.check(ExecutorObject, interfaces)
        shipped = load_commands(settings.commands_dirs)
        self._extras = Extras(self._desktop, shipped)
        executors = {ADAPTER.path: Executor(shipped, self._desktop), EXTRAS_PATH: self._extras.executor}
        self._objects = [
            self._registry.add(ExecutorObject(self._registry, path, executor))
            for path, executor in executors.items()
        ]
        self._here, self._left = asyncio.Event(), asyncio.Event()
        self._offering: asyncio.Task[None] | None = None

    @classmethod
    async def start(cls, address: str, settings: Settings) -> Adapter:
        """Publish the executor on the bus at ``address``.

        Raises:
            ServiceUnavailable: there is no bus, or another process has the name.
            CommandsInvalid, FileMissing: a catalogue cannot be read.
        """
        interfaces = contract.load()
        adapter = cls(await Connection.connect(address), settings, interfaces)
        await adapter.connection.watch(names.BUS_NAME, adapter._on_service)
        adapter._on_service(await adapter.connection.owner(names.BUS_NAME))
        if not await adapter.connection.own(ADAPTER.name):
            await adapter.close()
            raise ServiceUnavailable(f"another process already owns {ADAPTER.name}")
        return adapter

    def _on_service(self, owner: str) -> None:
        for published in self._objects:
            published.service = owner
        (self._here if owner else self._left).set()
        (self._left if owner else self._here).clear()
        if self._offering is not None:
            self._offering.cancel()
        self._offering = asyncio.ensure_future(self._offer()) if owner else None

    async def _offer(self) -> None:
        """Tell the service what else this desktop can do, and keep the list of applications up to date."""
        try:
            missing = await self._extras.unavailable()
            options = {"executor": EXTRAS_PATH, "keep_alive": False, "unavailable": missing}
            given = (NAME, self._extras.text, values.dictionary(options))
            await self._tell("RegisterCatalogue", "ssa{sv}", *given)
            known = None
            while True:
                if known != (known := applications.stamp()):
                    found = {id: list(called) for id, called in self._extras.applications().items()}
                    await self._tell("UpdateChoices", "ssa{sas}", NAME, APPLICATIONS, found)
                await asyncio.sleep(LOOK_EVERY_S)
        except KylinError as error:
            log.warning("the service does not take what else this desktop can do: %s", error)

    async def _tell(self, member: str, signature: str, *given: object) -> None:
        message = Message(
            names.BUS_NAME, names.ROOT, names.ACTUATOR, member, signature=signature, body=list(given)
        )
        await self.connection.call(message, REGISTER_TIMEOUT_S)

    async def wait_unneeded(self) -> None:
        """Return when there has been no service for ``GRACE_S`` seconds."""
        while True:
            await self._left.wait()
            try:
                await asyncio.wait_for(self._here.wait(), GRACE_S)
            except TimeoutError:
                if not self._dispatcher.busy:
                    return

    async def close(self) -> None:
        """Leave the buses. Programs that were started run on."""
        if self._offering is not None:
            self._offering.cancel()
        await self._dispatcher.close()
        await self._registry.close()
        await self._desktop.close()
        await self.connection.close()


async def serve(settings: Settings, address: str) -> None:
    """Carry out commands until SIGTERM or SIGINT, or until the service has gone.

    Raises:
        ServiceUnavailable: as ``Adapter.start``; or the bus went away.
        CommandsInvalid, FileMissing: a catalogue cannot be read.
    """
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, told.set)
    adapter = await Adapter.start(address, settings)
    ends: list[asyncio.Future[Any]] = [
        adapter.connection.lost,
        loop.create_task(told.wait()),
        loop.create_task(adapter.wait_unneeded()),
    ]
    try:
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if adapter.connection.lost.done():
            raise ServiceUnavailable(LOST)
    finally:
        for task in ends[1:]:
            task.cancel()
        await adapter.close()
