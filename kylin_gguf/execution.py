"""From a command that was understood to one that was carried out: who does it, and on whose word."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kylin_gguf.actuator.catalogue import Command
from kylin_gguf.errors import ConfirmationNeeded, ExecutorFailed
from kylin_gguf.records import Execution, ExecutorAddress

CallExecutor = Callable[[ExecutorAddress, Mapping[str, Any]], Awaitable[Execution]]
"""Hands a command to an executor. Raises ExecutorFailed or ExecutorTimeout."""


@dataclass(frozen=True)
class Route:
    """A command, who carries it out, and the id by which that executor knows it."""

    command: Command
    executor: ExecutorAddress
    id: str

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
        return await call(self.executor, given)


async def no_executors(executor: ExecutorAddress, _: Mapping[str, Any]) -> Execution:
    """Refuse: this process is not on a bus."""
    raise ExecutorFailed(executor.name, "there is no bus")
