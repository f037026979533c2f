"""The service process: builds everything, publishes it, ends when told to, when idle, or without a bus."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kylin_gguf.bus import contract, dispatch, names, private
from kylin_gguf.bus.connection import LOST, Connection
from kylin_gguf.bus.contract import Interface
from kylin_gguf.bus.dispatch import Dispatcher
from kylin_gguf.bus.executor import Executors, StartAdapter, activated_by_the_bus
from kylin_gguf.bus.job import JobObject
from kylin_gguf.bus.manager import RootObject
from kylin_gguf.bus.power import PowerWatch
from kylin_gguf.bus.registry import Registry
from kylin_gguf.bus.request import RequestObject
from kylin_gguf.bus.session import SessionObject
from kylin_gguf.errors import ServiceUnavailable
from kylin_gguf.records import Settings

if TYPE_CHECKING:
    from kylin_gguf.service import Service

log = logging.getLogger(__name__)

LOOK_EVERY_S = 5.0
"""How often a service in use looks whether it still is; an idle one sleeps until its time is up."""
REST_DELAY_S, REST_PATIENCE = 1.0, 30
"""The adapter is started, and the system bus asked, when the first callers have their answers: so many times
as late at most."""
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Server:
    """The service on one bus connection; made by ``start``."""

    def __init__(
        self,
        connection: Connection,
        service: Service,
        interfaces: Mapping[str, Interface],
        start_adapter: StartAdapter,
    ) -> None:
        self.connection = connection
        self._service = service
        self._registry = Registry(connection, interfaces)
        self._dispatcher = Dispatcher(self._registry)
        for published in (RootObject, SessionObject, RequestObject, JobObject):
            dispatch.check(published, interfaces)
        self._registry.add(RootObject(self._registry, service))
        self.executors = Executors(connection, start_adapter)
        service.call_executor = self.executors.call

    @classmethod
    async def start(
        cls, address: str, service: Service, start_adapter: StartAdapter = activated_by_the_bus
    ) -> Server:
        """Publish ``service`` on the bus at ``address`` under our name.

        ``start_adapter`` starts the adapter where the bus does not.

        Raises:
            ServiceUnavailable: there is no bus, the interface files are missing, or another process has the
                name.
        """
        interfaces = contract.load()
        server = cls(await Connection.connect(address), service, interfaces, start_adapter)
        if not await server.connection.own(names.BUS_NAME):
            await server.connection.close()
            raise ServiceUnavailable(f"another process already owns {names.BUS_NAME}")
        return server

    def _in_use(self) -> bool:
        return self._registry.active() or self._dispatcher.busy or self._service.busy()

    async def wait_idle(self, seconds: float) -> None:
        """Return when nobody has used the service for ``seconds``, with the name given back.

        0 means never. No call is lost: those that arrived before the name was gone are served first, and a
        later one starts the service anew.
        """
        if not seconds:
            await asyncio.Event().wait()
        seen_in_use = 0.0
        while True:
            if self._in_use():
                seen_in_use = time.monotonic()
                await asyncio.sleep(min(seconds, LOOK_EVERY_S))
                continue
            since = max(seen_in_use, self._dispatcher.last_call)
            left = since + seconds - time.monotonic()
            if left > 0:
                await asyncio.sleep(left)
                continue
            await self.connection.daemon("ReleaseName", "s", [names.BUS_NAME])
            if self._dispatcher.last_call <= since and not self._dispatcher.busy:
                return
            if not await self.connection.own(names.BUS_NAME):
                raise ServiceUnavailable(f"another process took {names.BUS_NAME}")

    async def start_adapter(self) -> None:
        """Have the adapter at hand, so that it can tell what else this desktop can do.

        Its start takes a third of a second of one core, which whoever waits for an answer would miss.
        """
        for _ in range(REST_PATIENCE):
            await asyncio.sleep(REST_DELAY_S)
            if not (self._dispatcher.busy or self._service.answering):
                break
        try:
            await self.executors.ensure_adapter()
        except ServiceUnavailable as error:
            log.warning("commands cannot be carried out: %s", error)

    async def close(self) -> None:
        """End calls, objects, streams and workers, then the connection."""
        await self._dispatcher.close()
        await self._registry.close()
        await self._service.close()
        await self.connection.close()


async def run(
    service: Service,
    address: str,
    idle_exit_s: float,
    start_adapter: StartAdapter = activated_by_the_bus,
) -> None:
    """Serve until SIGTERM or SIGINT, or until idle for ``idle_exit_s`` seconds (0: never).

    Raises:
        ServiceUnavailable: as ``Server.start``; or the bus went away, and the service manager restarts us.
    """
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, told.set)
    server = await Server.start(address, service, start_adapter)
    log.info("serving %s", names.BUS_NAME)
    rest = [
        loop.create_task(server.start_adapter()),
        loop.create_task(_watch_power(service)),
    ]
    ends: list[asyncio.Future[Any]] = [
        server.connection.lost,
        loop.create_task(told.wait(), name="told to"),
        loop.create_task(server.wait_idle(idle_exit_s), name="idle"),
    ]
    try:
        done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if server.connection.lost in done:
            raise ServiceUnavailable(LOST)
        for end in done:
            await end
        log.info("stopping")
    finally:
        for task in (*rest, *ends[1:]):
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        await server.close()
        for number in STOP_SIGNALS:
            loop.remove_signal_handler(number)


async def _watch_power(service: Service) -> None:
    """Tell the service where the machine's power comes from, until cancelled."""
    await asyncio.sleep(REST_DELAY_S)
    try:
        watch = await PowerWatch.start(service.heed_power)
    except ServiceUnavailable as error:
        log.info("where the power comes from is not known: %s", error.reason)
        return
    try:
        await asyncio.Event().wait()
    finally:
        await watch.close()


async def serve(settings: Settings) -> None:
    """Build the service from ``settings`` and run it on the session bus, or on a private one where none is.

    Raises:
        KylinError: a catalogue is invalid, or as ``run``.
    """
    # Imported here: clients of the bus need none of it.
    from kylin_gguf import catalogue  # noqa: PLC0415
    from kylin_gguf.service import Service  # noqa: PLC0415
    from kylin_gguf.store import Store  # noqa: PLC0415

    models = catalogue.load(settings.catalogue)
    service = Service(settings, Store(settings, models))
    address = await private.bus_address(settings)

    async def start_adapter(connection: Connection) -> None:
        await private.start_program(private.ADAPTER_PROGRAM, settings, connection, address)

    await run(service, address, settings.idle_exit_s, start_adapter)
