"""How alike the states of a token are at two places of a model, over many tokens: the cosine of their angle.

Men et al. 2024 (ShortGPT, arXiv 2403.03853) take the mean of the cosines, Gromov et al. 2024 (arXiv
2403.17887) that of the angles. Both choose the same runs of two blocks and more where that was tried; for
one block the cosine did better (docs/pruning.md).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

States = npt.NDArray[np.float32]


class Similarity:
    """Sums over tokens, for each two of ``places``: before the first block and behind every block."""

    def __init__(self, places: int) -> None:
        self._cosines = np.zeros((places, places))
        self._tokens = 0

    def add(self, states: States) -> None:
        """Take the states of some tokens, of shape (places, tokens, width). One that is zero is like none."""
        lengths = np.linalg.norm(states, axis=2, keepdims=True)
        flat = (states / np.maximum(lengths, np.finfo(np.float32).tiny)).reshape(len(states), -1)
        self._cosines += flat @ flat.T
        self._tokens += states.shape[1]

    def to_json(self) -> dict[str, object]:
        """Return the means, as a list of places x places, and of how many tokens they are."""
        return {"tokens": self._tokens, "cosine": (self._cosines / self._tokens).tolist()}
