"""What turns words into commands, made when the first ones come.

Its libraries and the catalogue are a third of the memory of a service that nobody uses, and take longer to
read than all the rest of its start.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import TYPE_CHECKING

from kylin_gguf.errors import KylinError
from kylin_gguf.records import Settings

if TYPE_CHECKING:
    from kylin_gguf.actuator.interpret import Interpreter
    from kylin_gguf.actuator.study import HiddenStates

log = logging.getLogger(__name__)


class Understanding:
    """Holds the interpreter of a service."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._readouts = settings, settings.cache_dir / "readouts"
        self._lock = threading.Lock()
        self._interpreter: Interpreter | None = None

    @property
    def keeps_alive(self) -> bool:
        """Whether a client's catalogue would be missed."""
        return self._interpreter is not None and self._interpreter.collection.keeps_alive

    def now(self) -> Interpreter:
        """Return the interpreter, after a few tenths of a second the first time.

        Raises:
            CommandsInvalid: a catalogue of this machine breaks the format.
        """
        with self._lock:
            if self._interpreter is None:
                self._interpreter = self._make()
            return self._interpreter

    async def ready(self) -> Interpreter:
        """Return the interpreter, made in a thread."""
        made = self._interpreter
        return await asyncio.to_thread(self.now) if made is None else made

    async def recall(self, model: HiddenStates) -> None:
        """Make ready for commands that ``model``, which was just loaded, has learnt before.

        Where no model has ever learnt any, nothing is read. That a catalogue is broken is told to whoever
        gives a command, not to whoever chats.
        """
        if not await asyncio.to_thread(lambda: any(self._readouts.glob("*.npz"))):
            return
        try:
            await (await self.ready()).recall(model)
        except KylinError as error:
            log.warning("not ready for commands: %s", error.statement())

    async def close(self) -> None:
        """Stop what the interpreter learns in the background."""
        if self._interpreter is not None:
            await self._interpreter.close()

    def _make(self) -> Interpreter:
        from kylin_gguf.actuator.interpret import Interpreter  # noqa: PLC0415 - see above
        from kylin_gguf.actuator.shipped import load_commands  # noqa: PLC0415
        from kylin_gguf.actuator.shortlists import IN_PACKAGE, Shortlists  # noqa: PLC0415
        from kylin_gguf.actuator.study import Study  # noqa: PLC0415

        learnt = Shortlists(self._settings.cache_dir / "shortlists", IN_PACKAGE)
        return Interpreter(load_commands(self._settings.commands_dirs), learnt.of, Study(self._readouts))
