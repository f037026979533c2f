"""Which class a point belongs to, by the points that it is near: kernel ridge regression (Rifkin & Lippert
2003). The more examples there are of a class, the more odd shapes it can have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kylin_gguf.actuator import ridge
from kylin_gguf.actuator.ridge import Indices, Vector

RIDGE = 0.1
"""On MASSIVE's training rows; the optimum is flat, a factor of three either way costs under half a point."""


@dataclass(frozen=True)
class KernelHead:
    """``points``, shape (axes, examples), are directions of length 1; ``weights`` has the shape (examples,
    classes)."""

    points: Vector
    weights: Vector

    @classmethod
    def fit(cls, points: Vector, classes: Indices, class_count: int) -> tuple[KernelHead, float]:
        """Learn from ``points``, shape (examples, axes), and the class of each; return also the share of them
        that is right when left out."""
        wanted = ridge.targets(classes, class_count)
        # Beside how often a class is shown: else the many examples of no command speak for none.
        wanted -= wanted.mean(axis=0)
        kernel = np.exp(points @ points.T - 1)
        weights = ridge.fit(kernel, wanted, RIDGE)
        held_out = wanted - ridge.residuals(kernel, weights)
        right = float(np.mean(held_out.argmax(axis=1) == classes))
        return cls(np.ascontiguousarray(points.T), weights), right

    def outputs(self, point: Vector) -> Vector:
        """Return about 0 to 1 for each class, for ``point``, shape (axes,)."""
        return ridge.outputs(np.exp(ridge.outputs(point, self.points) - 1), self.weights)

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return what ``from_arrays`` takes."""
        return {"points": self.points.astype(np.float16), "weights": self.weights.astype(np.float16)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]]) -> KernelHead:
        """Return the head that ``arrays`` was made of.

        Raises:
            KeyError, ValueError: ``arrays`` is something else.
        """
        made = cls(arrays["points"].astype(np.float32), arrays["weights"].astype(np.float32))
        if made.points.shape[1:] != made.weights.shape[:1]:
            raise ValueError(f"points {made.points.shape}, weights {made.weights.shape}")
        return made

    @property
    def shape(self) -> tuple[int, int]:
        """Axes and classes."""
        return self.points.shape[0], self.weights.shape[1]
