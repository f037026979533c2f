"""Models that stand in for a real one: what they make of a text is a few numbers."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kylin_gguf.errors import KylinError
from kylin_gguf.records import Message

WIDTH = 96


class Model:
    """Texts that share pairs of characters are alike to it. It remembers what it was shown."""

    def __init__(
        self, name: str = "model", failure: KylinError | None = None, path: Path = Path("/nowhere.gguf")
    ) -> None:
        self.name, self.failure, self.path = name, failure, path
        self.learnt: list[str] = []
        self.asked: list[str] = []
        self.told: set[tuple[Message, ...]] = set()

    async def identity(self) -> str:
        return self.name

    async def file(self) -> Path:
        return self.path

    async def of(
        self, texts: Sequence[str], before: tuple[Message, ...], *, background: bool
    ) -> NDArray[np.float32]:
        if self.failure:
            raise self.failure
        self.told.add(before)
        (self.learnt if background else self.asked).extend(texts)
        return np.stack([self.state(text) for text in texts])

    def state(self, text: str) -> NDArray[np.float32]:
        state = np.full(WIDTH, 0.01, np.float32)
        for pair in itertools.pairwise(text):
            state[zlib.crc32("".join(pair).encode()) % WIDTH] += 1.0
        return state


class RandomModel(Model):
    """It knows nothing, and may say anything."""

    def __init__(self, seed: int, scale: float) -> None:
        super().__init__(f"random {seed}")
        self._random, self._scale = np.random.default_rng(seed), scale

    def state(self, text: str) -> NDArray[np.float32]:
        return (self._random.standard_normal(WIDTH) * self._scale).astype(np.float32)
