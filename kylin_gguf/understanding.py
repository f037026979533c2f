"""What turns words into commands, made when the first ones come.

Its libraries and the catalogue are a third of the memory of a service that nobody uses, and take longer to
read than all the rest of its start. Catalogues that clients register meanwhile need neither.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
from typing import TYPE_CHECKING

from kylin_gguf.errors import KylinError
from kylin_gguf.records import Settings

if TYPE_CHECKING:
    from kylin_gguf.actuator.catalogue import CommandCatalogue
    from kylin_gguf.actuator.collection import Collection
    from kylin_gguf.actuator.interpret import Interpreter
    from kylin_gguf.actuator.shortlist import Shortlist
    from kylin_gguf.actuator.shortlists import Shortlists
    from kylin_gguf.actuator.study import HiddenStates
    from kylin_gguf.actuator.word_tables import WordTables

log = logging.getLogger(__name__)


class Understanding:
    """Holds the interpreter of a service, and the catalogues that it is made for. Lives on one event loop."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._readouts = settings, settings.cache_dir / "readouts"
        self._lock = threading.Lock()
        self._collection: Collection | None = None
        self._interpreter: Interpreter | None = None

    @property
    def keeps_alive(self) -> bool:
        """Whether a client's catalogue would be missed."""
        return self._collection is not None and self._collection.keeps_alive

    @property
    def collection(self) -> Collection:
        """The catalogues; the one of this machine is read when something asks for what is in it."""
        if self._collection is None:
            from kylin_gguf.actuator.collection import Collection  # noqa: PLC0415 - see above
            from kylin_gguf.actuator.shipped import SHIPPED_COMMANDS, load_commands  # noqa: PLC0415

            read = functools.partial(load_commands, self._settings.commands_dirs)
            self._collection = Collection.reading_later(
                SHIPPED_COMMANDS.name, read, self._learn, self._improve
            )
        return self._collection

    async def ready(self) -> Interpreter:
        """Return the interpreter, made in a thread the first time, which takes a few tenths of a second.

        Raises:
            CommandsInvalid: a catalogue of this machine breaks the format.
        """
        if self._interpreter is None:
            return await asyncio.to_thread(self._make_once, self.collection)
        return self._interpreter

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

    def _make_once(self, collection: Collection) -> Interpreter:
        with self._lock:
            if self._interpreter is None:
                collection.read()
                self._interpreter = self._make(collection)
            return self._interpreter

    def _make(self, collection: Collection) -> Interpreter:
        from kylin_gguf.actuator.interpret import Interpreter  # noqa: PLC0415 - see above
        from kylin_gguf.actuator.study import Study  # noqa: PLC0415
        from kylin_gguf.actuator.word_study import WordStudy  # noqa: PLC0415

        words = WordStudy(self._tables, collection.renew)
        return Interpreter(collection, study=Study(self._readouts, words=words))

    @functools.cached_property
    def _tables(self) -> WordTables:
        from kylin_gguf.actuator.word_tables import WordTables  # noqa: PLC0415 - see above

        return WordTables(self._settings.cache_dir / "words")

    @functools.cached_property
    def _shortlists(self) -> Shortlists:
        from kylin_gguf.actuator.shortlists import IN_PACKAGE, Shortlists  # noqa: PLC0415 - see above

        directory = self._settings.cache_dir / "shortlists"
        return Shortlists(directory, IN_PACKAGE, words=self._tables.in_force)

    def _learn(self, catalogue: CommandCatalogue) -> Shortlist:
        return self._shortlists.of(catalogue)

    def _improve(self, catalogue: CommandCatalogue, than: Shortlist) -> Shortlist | None:
        return self._shortlists.better(catalogue, than)
