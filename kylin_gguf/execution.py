"""From a command that was understood to one that was carried out: who does it, and on whose word."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kylin_gguf.actuator.catalogue import Command
from kylin_gguf.errors import ConfirmationNeeded, ExecutorFailed, KylinError
from kylin_gguf.records import Execution, ExecutorAddress

CallExecutor = Callable[[ExecutorAddress, Mapping[str, Any]], Awaitable[Execution]]
"""Hands a command to an executor. Raises ExecutorFailed or ExecutorTimeout."""

KEPT_COMMANDS = 20


class Journal:
    """The commands that were carried out last: which, when, and how it ended. Neither what the user said nor
    the arguments, which can be the user's own words, are in it; and it is in memory only."""

    def __init__(self) -> None:
        self._entries: deque[dict[str, Any]] = deque(maxlen=KEPT_COMMANDS)

    def entries(self) -> list[dict[str, Any]]:
        """Return one JSON object a command, the latest first; see ``GetStatistics`` in the contract."""
        return list(reversed(self._entries))

    async def follow(self, command_id: str, execution: Awaitable[Execution]) -> Execution:
        """Return what ``execution`` brings, and note its end."""
        at, began = time.time(), time.monotonic()
        status, code = "failed", None
        try:
            done = await execution
            status = done.status
            return done
        except KylinError as error:
            code = error.code
            raise
        finally:
            seconds = round(time.monotonic() - began, 3)
            self._entries.append(
                {"command": command_id, "status": status, "code": code, "at": at, "seconds": seconds}
            )


@dataclass(frozen=True)
class Route:
    """A command, who carries it out, the id by which that executor knows it, and where its end is noted."""

    command: Command
    executor: ExecutorAddress
    id: str
    journal: Journal = field(default_factory=Journal)

    async def execute(
        self, arguments: Mapping[str, object], call: CallExecutor, *, confirmed: bool
    ) -> Execution:
        """Check ``arguments`` once more and have the command carried out.

        Raises:
            InvalidValue, UnknownOption: wrong arguments.
            ConfirmationNeeded: the command needs a yes, and ``confirmed`` is false. Nothing was done.
            ExecutorFailed, ExecutorTimeout: the executor has not answered, or not with a result.
        """
        checked = self.command.check(arguments)
        if self.command.risk == "confirm" and not confirmed:
            raise ConfirmationNeeded(self.command.id)
        kylin = self.command.kylin(checked)
        given = {"command": self.id, "arguments": checked, "kylin": kylin.to_json() if kylin else None}
        return await self.journal.follow(self.command.id, call(self.executor, given))


async def no_executors(executor: ExecutorAddress, _: Mapping[str, Any]) -> Execution:
    """Refuse: this process is not on a bus."""
    raise ExecutorFailed(executor.name, "there is no bus")
