"""What a model of the pool makes of texts, for the actuator, which knows neither pool nor workers."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kylin_gguf.actuator import prompt
from kylin_gguf.engine.prefix_store import fingerprint
from kylin_gguf.errors import FileMissing
from kylin_gguf.pool import EnginePool
from kylin_gguf.records import InstalledModel, Message, ProgressCallback, StatesRequest, no_progress


class ModelStates:
    """An ``actuator.study.HiddenStates``. The model is looked for only when it is asked."""

    def __init__(
        self,
        pool: EnginePool,
        find: Callable[[], Awaitable[InstalledModel]],
        progress: ProgressCallback = no_progress,
    ) -> None:
        """``find`` returns the model; ``progress`` gets how far it is loaded."""
        self._pool, self._find, self._progress = pool, find, progress

    async def file(self) -> Path:
        """Return the model's file."""
        return (await self._find()).path

    async def identity(self) -> str:
        """Return a hash that changes with the content of the model's file.

        Raises:
            FileMissing: the file was removed after it had been found.
        """
        path = (await self._find()).path
        try:
            modified_ns = path.stat().st_mtime_ns
        except OSError as error:
            raise FileMissing(str(path), error.strerror or str(error)) from error
        return await asyncio.to_thread(_identity, path, modified_ns)

    async def of(
        self, texts: Sequence[str], before: tuple[Message, ...], *, background: bool
    ) -> NDArray[np.float32]:
        """Return the hidden state of each text behind ``before``, shape (len(texts), width of the model)."""
        asked = StatesRequest(before, tuple(texts), prompt.DEPTH, background)
        model = await self._find()
        return await self._pool.ask(model, lambda engine: engine.hidden_states(asked), self._progress)


@functools.lru_cache(maxsize=8)
def _identity(path: Path, _modified_ns: int) -> str:
    return fingerprint(path)
