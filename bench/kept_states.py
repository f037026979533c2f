"""Hidden states kept on disk: those of all of MASSIVE take an hour, in which a run may be interrupted."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kylin_gguf.actuator import prompt
from kylin_gguf.actuator.study import HiddenStates
from kylin_gguf.records import Message

_EVERY = 1024
"""New states from which on they are written."""


class KeptStates:
    """A ``HiddenStates`` that asks ``model`` for a text only once, and keeps the answers in ``directory``."""

    def __init__(self, model: HiddenStates, directory: Path) -> None:
        self._model, self._directory = model, directory
        self._known: dict[tuple[Message, ...], dict[str, NDArray[np.float32]]] = {}
        """By what texts are shown behind."""
        self._new = 0

    async def file(self) -> Path:
        """Return the model's own."""
        return await self._model.file()

    async def identity(self) -> str:
        """Return the model's own."""
        return await self._model.identity()

    async def of(
        self, texts: Sequence[str], before: tuple[Message, ...], *, background: bool
    ) -> NDArray[np.float32]:
        """Return the state of each text behind ``before``, shape (len(texts), width)."""
        if before not in self._known:
            self._known[before] = _read(await self._path(before))
        known = self._known[before]
        missing = [text for text in dict.fromkeys(texts) if text not in known]
        if missing:
            states = await self._model.of(missing, before, background=background)
            known.update(zip(missing, states, strict=True))
            self._new += len(missing)
        if self._new >= _EVERY:
            await self.write()
        return np.stack([known[text] for text in texts])

    async def write(self) -> None:
        """Keep what is new."""
        if self._new:
            self._directory.mkdir(parents=True, exist_ok=True)
            for before, known in self._known.items():
                path = await self._path(before)
                part = path.with_suffix(".part.npz")
                np.savez(part, texts=np.array(list(known)), states=np.stack([*known.values()]))
                part.replace(path)
        self._new = 0

    async def _path(self, before: tuple[Message, ...]) -> Path:
        """What states depend on is in the name: the model, what it is shown, how deep it is looked."""
        shown = repr((await self.identity(), before, prompt.DEPTH))
        return self._directory / f"{hashlib.blake2b(shown.encode(), digest_size=16).hexdigest()}.npz"


def _read(path: Path) -> dict[str, NDArray[np.float32]]:
    if not path.exists():
        return {}
    with np.load(path, allow_pickle=False) as kept:
        return dict(zip(kept["texts"].tolist(), kept["states"], strict=True))
