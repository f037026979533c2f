"""A catalogue that a client has registered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kylin_gguf.actuator import quota
from kylin_gguf.actuator.catalogue import CommandCatalogue
from kylin_gguf.actuator.choices import Choices
from kylin_gguf.actuator.quota import Size
from kylin_gguf.records import ExecutorAddress

if TYPE_CHECKING:  # collection says why
    from kylin_gguf.actuator.index import Index


@dataclass(frozen=True)
class Registered:
    """A catalogue, the client it belongs to, and where on the bus that carries its commands out.

    ``catalogue`` has its commands with the ids that they are given out by; ``index`` is None until its
    examples are learnt. ``keeps_alive``: the service does not end for want of use while it is there.
    ``unavailable`` are the commands, by those ids, that its executor cannot carry out.
    """

    executor: ExecutorAddress
    catalogue: CommandCatalogue
    index: Index | None
    keeps_alive: bool = True
    unavailable: frozenset[str] = frozenset()

    @property
    def owner(self) -> str:
        """The client's unique name on the bus."""
        return self.executor.name

    @property
    def size(self) -> Size:
        """What counts against the limits."""
        return quota.size(self.catalogue)

    def with_lists(self, lists: Mapping[str, Choices]) -> Registered:
        """Return it with the contents of ``lists`` replaced."""
        index = self.index and self.index.with_lists(lists)
        return replace(self, catalogue=self.catalogue.with_lists(lists), index=index)
