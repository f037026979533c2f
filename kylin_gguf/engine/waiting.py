"""Requests that wait for a slot: who is next, and how many KV cells a set of requests takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kylin_gguf.engine.radix_tree import distinct
from kylin_gguf.engine.tasks.task import Priority, Task
from kylin_gguf.errors import Busy

MAX_WAITING = 64

RESERVE = 64
"""KV cells counted for what a running request has yet to add. Not its limit, which few reach: who runs out of
cells is displaced and goes on later."""


class WaitingLine:
    """Two lines, interactive before background; first come, first served in each."""

    def __init__(self) -> None:
        self._lines: dict[Priority, list[Task]] = {priority: [] for priority in Priority}
        """In the order of who goes first."""
        self._told: dict[int, int] = {}

    def __iter__(self) -> Iterator[Task]:
        return iter([task for line in self._lines.values() for task in line])

    def __len__(self) -> int:
        return sum(map(len, self._lines.values()))

    def join(self, task: Task) -> None:
        """Stand at the end.

        Raises:
            Busy: the line is full.
        """
        line = self._lines[task.priority]
        if len(line) >= MAX_WAITING:
            raise Busy("waiting requests", MAX_WAITING)
        line.append(task)

    def rejoin(self, task: Task) -> None:
        """Stand in front again, after having been displaced."""
        self._lines[task.priority].insert(0, task)

    def leave(self, task: Task) -> None:
        """Step out of the line."""
        self._lines[task.priority].remove(task)
        self._told.pop(task.id, None)

    def tell(self) -> None:
        """Tell everyone whose place has changed."""
        for position, task in enumerate(self, 1):
            if self._told.get(task.id) != position:
                self._told[task.id] = position
                task.queued(position)


def cells(tasks: Iterable[Task], *, shared: bool) -> int:
    """Return the KV cells that ``tasks`` need together, with a reserve for each.

    ``shared`` says whether common beginnings count once.
    """
    tasks = list(tasks)
    held = distinct((task.tokens for task in tasks), shared=shared)
    return held + sum(min(task.room, RESERVE) for task in tasks)
