"""Which class a point belongs to, if each class is a cloud of the same form: linear discriminant analysis
with a shrunken covariance (Friedman 1989). With few examples of a class that is all that can be known of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kylin_gguf.actuator import ridge
from kylin_gguf.actuator.ridge import Indices, Vector

SHRINKAGE = 0.3
"""How round clouds are taken to be, 0 to 1; on MASSIVE's training rows 0.2 to 0.6 differ by half a point."""
TEMPERATURES = 2.0 ** np.arange(-1, 8, 0.5)
"""Points are not as independent as the theory has them, so it is too sure by a factor that is looked for."""


@dataclass(frozen=True)
class GaussianHead:
    """``normals``, shape (axes, classes), and ``offsets``, shape (classes,), give the logarithm of what
    speaks for each class."""

    normals: Vector
    offsets: Vector

    @classmethod
    def fit(cls, points: Vector, classes: Indices, class_count: int) -> tuple[GaussianHead, float]:
        """Learn from ``points``, shape (examples, axes), and the class of each; return also the share of them
        that is right when left out.

        Raises:
            ValueError: there is a class of one example.
        """
        clouds = _Clouds(points.astype(np.float64), classes, class_count)
        held_out = clouds.held_out()
        each = np.arange(len(points))
        likely = [np.log(_softmax(held_out / t)[each, classes] + 1e-9).mean() for t in TEMPERATURES]
        temperature = TEMPERATURES[int(np.argmax(likely))]
        normals, offsets = clouds.normals.T / temperature, clouds.offsets / temperature
        right = float(np.mean(held_out.argmax(axis=1) == classes))
        return cls(np.ascontiguousarray(normals, np.float32), offsets.astype(np.float32)), right

    def outputs(self, point: Vector) -> Vector:
        """Return the probability of each class, for ``point``, shape (axes,)."""
        probabilities: Vector = _softmax(ridge.outputs(point, self.normals) + self.offsets)
        return probabilities

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return what ``from_arrays`` takes."""
        return {"normals": self.normals, "offsets": self.offsets}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]]) -> GaussianHead:
        """Return the head that ``arrays`` was made of.

        Raises:
            KeyError, ValueError: ``arrays`` is something else.
        """
        made = cls(arrays["normals"].astype(np.float32), arrays["offsets"].astype(np.float32))
        if made.normals.shape[1:] != made.offsets.shape:
            raise ValueError(f"normals {made.normals.shape}, offsets {made.offsets.shape}")
        return made

    @property
    def shape(self) -> tuple[int, int]:
        """Axes and classes."""
        return self.normals.shape[0], self.normals.shape[1]


class _Clouds:
    def __init__(self, points: NDArray[np.float64], classes: Indices, class_count: int) -> None:
        self._points, self._classes = points, classes
        self._counts = np.bincount(classes, minlength=class_count)
        if self._counts.min(initial=2) < 2:  # noqa: PLR2004 - nothing would be left of the class
            raise ValueError("a class of one example")
        self._means = np.stack([points[classes == number].mean(axis=0) for number in range(class_count)])
        self._around = points - self._means[classes]
        self._precision = np.linalg.inv(self._covariance())
        self.normals = self._means @ self._precision
        self.offsets = -0.5 * np.einsum("ij,ij->i", self.normals, self._means)

    def _covariance(self) -> NDArray[np.float64]:
        pooled = self._around.T @ self._around / len(self._points)
        width = len(pooled)
        evenly = np.trace(pooled) / width + 1e-9
        shrunk: NDArray[np.float64] = (1 - SHRINKAGE) * pooled + SHRINKAGE * evenly * np.eye(width)
        return shrunk

    def held_out(self) -> NDArray[np.float64]:
        """Return the logarithm of what speaks for each class, shape (examples, classes), for each example
        when it is left out: of its class's mean, and of the covariance by the Sherman-Morrison formula."""
        around, own = self._around, self._classes
        towards = around @ self._precision
        rest = self._counts[own] - 1
        share = (1 - SHRINKAGE) / len(around) * (rest + 1) / rest
        factor = share / (1 - share * _dot(towards, around))
        along, across = factor * _dot(self._points, towards), around @ self.normals.T
        scores: NDArray[np.float64] = self._points @ self.normals.T + self.offsets
        scores += along[:, None] * across - 0.5 * factor[:, None] * across**2
        means = self._means[own] - around / rest[:, None]
        projected = means @ self._precision
        sideways = _dot(towards, means)
        scores[np.arange(len(own)), own] = (
            _dot(self._points, projected)
            + along * sideways
            - 0.5 * (_dot(projected, means) + factor * sideways**2)
        )
        return scores


def _dot(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    products: NDArray[np.float64] = np.einsum("ij,ij->i", a, b)
    return products


def _softmax(logarithms: NDArray[np.floating]) -> NDArray[np.floating]:
    weights = np.exp(logarithms - logarithms.max(axis=-1, keepdims=True))
    shares: NDArray[np.floating] = weights / weights.sum(axis=-1, keepdims=True)
    return shares
