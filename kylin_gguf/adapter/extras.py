"""What this desktop can do besides the shipped commands: a catalogue of its own, and what of it is there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from kylin_gguf import actuator
from kylin_gguf.actuator import choices, effects, reader
from kylin_gguf.actuator.catalogue import CommandCatalogue
from kylin_gguf.adapter import applications
from kylin_gguf.adapter.applications import Application
from kylin_gguf.adapter.executor import Executor
from kylin_gguf.adapter.services import Services

FILE = Path(actuator.__file__).parent / "commands" / "desktop.yaml"
NAME = "desktop"
APPLICATIONS = "applications"
"""The list of that catalogue that ``applications`` fills."""
MAX_NAMES = 8
"""As many names as the service takes for one application."""


class Extras:
    """The additional commands, and the applications that they can open.

    Applications that a shipped command opens are left out: "open the music player" has its own command.
    """

    def __init__(self, services: Services, shipped: CommandCatalogue) -> None:
        self.text = FILE.read_text(encoding="utf-8")
        self._taken = frozenset(_programs(shipped))
        self.executor = Executor(reader.parse(self.text, NAME), services)

    async def unavailable(self) -> list[str]:
        """Return which of the commands this desktop cannot carry out."""
        return [c.id for c in self.executor.catalogue.commands if not await self.executor.available(c)]

    def applications(self) -> Mapping[str, tuple[str, ...]]:
        """Return what can be opened now, with the names it is called by; later commands are checked by it."""
        found = {a.id: a.names[:MAX_NAMES] for a in applications.installed() if not self._is_taken(a)}
        lists = {APPLICATIONS: choices.read(found)}
        self.executor.catalogue = self.executor.catalogue.with_lists(lists)
        return found

    def _is_taken(self, application: Application) -> bool:
        return bool(self._taken & {application.id.removesuffix(applications.SUFFIX), application.program})


def _programs(catalogue: CommandCatalogue) -> set[str]:
    """Return the programs that the catalogue's commands start."""
    steps = [s for c in catalogue.commands for s in (*c.effect, *(x for v in c.values() for x in v.effect))]
    ways = [way for step in steps for way in effects.alternatives(step)]
    return {str(way["program"]) for way in ways if way["kind"] == "launch"}
