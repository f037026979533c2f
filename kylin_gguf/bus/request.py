"""Request objects: one answer in the making, seen from its owner's side."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from kylin_gguf.bus import names
from kylin_gguf.bus.registry import Published, Registry

if TYPE_CHECKING:
    from kylin_gguf.engine.generation import Generation, Outcome


class RequestObject(Published):
    """``org.openkylin.GgufEngine1.Request`` around a ``Generation``."""

    interfaces = (names.REQUEST,)

    def __init__(
        self, registry: Registry, owner: str, generation: Generation, release: Callable[[], None]
    ) -> None:
        super().__init__(registry, registry.new_path("request"), owner)
        self._generation = generation
        self._state = "running"
        generation.finished.add_done_callback(lambda done: self._end(done, release))
        self._reported = False
        self._outcome: Outcome | None = None
        self._started = False

    @property
    def finished(self) -> bool:
        return self._state != "running"

    def start(self) -> None:
        """Begin to report. Called when the reply that names this request is with the bus."""
        self._started = True
        self._report()

    async def send_frames(self, lines: list[str]) -> None:
        """Emit Frames, and return when the bus has taken it."""
        if self.path in self.registry:
            await self.registry.emit(self, names.REQUEST, "Frames", lines)

    async def cancel(self, _: str) -> None:
        """Method Cancel."""
        self._generation.cancel()

    async def confirm(self, _: str, consent: bool) -> None:
        """Method Confirm."""
        self._generation.confirm(consent)

    async def abandon(self) -> None:
        """Stop the answer: nobody is left who reads it."""
        self._generation.cancel()

    async def get_state(self) -> str:
        """Property State."""
        return self._state

    def _end(self, done: asyncio.Future[Outcome], release: Callable[[], None]) -> None:
        release()
        if done.cancelled() or done.exception() is not None:
            self._state = "error"
        else:
            self._outcome = done.result()
            self._state = self._outcome.reason
        self._report()

    def _report(self) -> None:
        """Emit Finished, once both the answer has ended and the reply was sent."""
        if not (self._started and self.finished) or self.path not in self.registry:
            return
        usage = self._outcome.usage.to_json() if self._outcome and self._outcome.usage else {}
        self.registry.emit(self, names.REQUEST, "Finished", self._state, usage)
        self.registry.trim(self.owner)
