"""Executors, as the service sees them: called with a time limit, and the shipped one started on demand."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from dbus_next.message import Message

from kylin_gguf.bus import names, values
from kylin_gguf.bus.connection import Connection, close_descriptors
from kylin_gguf.errors import ExecutorFailed, ExecutorTimeout, KylinError, ServiceUnavailable
from kylin_gguf.records import ADAPTER, Execution, ExecutorAddress

log = logging.getLogger(__name__)

TIMEOUT_S = 30


StartAdapter = Callable[[Connection], Awaitable[None]]
"""Starts the adapter and returns when it has its name. Raises ServiceUnavailable."""


async def activated_by_the_bus(_: Connection) -> None:
    """Leave it to the bus, which starts what a call is addressed to."""


class Executors:
    """Calls executors on one connection; ``start`` starts the adapter."""

    def __init__(self, connection: Connection, start: StartAdapter) -> None:
        self._connection, self._start = connection, start
        self._starting = asyncio.Lock()

    async def ensure_adapter(self) -> None:
        """Start the adapter unless it runs.

        Raises:
            ServiceUnavailable: it could not be started.
        """
        async with self._starting:
            if not await self._connection.has_owner(ADAPTER.name):
                await self._start(self._connection)

    async def call(self, executor: ExecutorAddress, command: Mapping[str, Any]) -> Execution:
        """Have ``executor`` carry ``command`` out, as ``execution.CallExecutor``."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                if executor.name == ADAPTER.name:
                    await self.ensure_adapter()
                return await self._call(executor, command)
        except TimeoutError as error:
            raise ExecutorTimeout(executor.name, TIMEOUT_S) from error
        except ServiceUnavailable as error:
            raise ExecutorFailed(executor.name, str(error.fields().get("reason", error))) from error
        except KylinError as error:  # an error reply, or a result that is none
            raise ExecutorFailed(executor.name, error.statement().rstrip(".")) from error

    async def _call(self, executor: ExecutorAddress, command: Mapping[str, Any]) -> Execution:
        reply = await self._connection.call(
            Message(
                executor.name,
                executor.path,
                names.EXECUTOR,
                "Execute",
                signature="a{sv}",
                body=[values.dictionary(command)],
            )
        )
        close_descriptors(reply)
        result = values.plain(reply.body[0]) if reply.signature == "a{sv}" else {}
        return Execution.from_json(result)
