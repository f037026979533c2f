"""Hidden states kept on disk: those of all of MASSIVE take an hour, in which a run may be interrupted."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kylin_gguf.actuator import prompt
from kylin_gguf.actuator.study import HiddenStates

_EVERY = 1024
"""New states from which on they are written."""


class KeptStates:
    """A ``HiddenStates`` that asks ``model`` for a text only once, and keeps the answers in ``directory``."""

    def __init__(self, model: HiddenStates, directory: Path) -> None:
        self._model, self._directory = model, directory
        self._known: dict[str, NDArray[np.float32]] | None = None
        self._new = 0

    async def file(self) -> Path:
        """Return the model's own."""
        return await self._model.file()

    async def identity(self) -> str:
        """Return the model's own."""
        return await self._model.identity()

    async def of(self, texts: Sequence[str], *, background: bool) -> NDArray[np.float32]:
        """Return the state of each text, shape (len(texts), width)."""
        if self._known is None:
            self._known = _read(await self._path())
        missing = [text for text in dict.fromkeys(texts) if text not in self._known]
        if missing:
            states = await self._model.of(missing, background=background)
            self._known.update(zip(missing, states, strict=True))
            self._new += len(missing)
        if self._new >= _EVERY:
            await self.write()
        return np.stack([self._known[text] for text in texts])

    async def write(self) -> None:
        """Keep what is new."""
        if self._known and self._new:
            self._directory.mkdir(parents=True, exist_ok=True)
            path = await self._path()
            part = path.with_suffix(".part.npz")
            np.savez(part, texts=np.array(list(self._known)), states=np.stack([*self._known.values()]))
            part.replace(path)
        self._new = 0

    async def _path(self) -> Path:
        """What states depend on is in the name: the model, what it is shown, how deep it is looked."""
        shown = repr((await self.identity(), prompt.BEFORE, prompt.DEPTH))
        return self._directory / f"{hashlib.blake2b(shown.encode(), digest_size=16).hexdigest()}.npz"


def _read(path: Path) -> dict[str, NDArray[np.float32]]:
    if not path.exists():
        return {}
    with np.load(path, allow_pickle=False) as kept:
        return dict(zip(kept["texts"].tolist(), kept["states"], strict=True))
