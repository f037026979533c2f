"""How a model's vectors of words come into use: with the commands that it learns."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

from kylin_gguf.actuator.index import Index
from kylin_gguf.actuator.word_tables import WordTables


class ModelFile(Protocol):
    """A model whose file can be read."""

    async def file(self) -> Path:
        """Return the file, the first one if there are several.

        Raises:
            ModelNotInstalled: there is no such model.
        """


class WordStudy:
    """Has tables made of models. Lives on one event loop."""

    def __init__(self, tables: WordTables, renew: Callable[[], Awaitable[None]]) -> None:
        """``renew`` is called when another table is in force, and has the examples learnt anew."""
        self._tables, self._renew = tables, renew

    def knows(self, identity: str) -> bool:
        """Whether the model of that ``identity`` need not be studied."""
        return self._tables.knows(identity)

    async def learn(self, index: Index, identity: str, model: ModelFile) -> None:
        """Make the table of ``model``, judged by the examples of ``index``, unless that was done before.

        Raises:
            KylinError: the file is missing or cut short.
        """
        if not self.knows(identity):
            path = await model.file()
            if await asyncio.to_thread(self._tables.judge, identity, path, index.learning):
                await self._renew()
