"""Which commands an utterance is like, from what a model makes of it: a readout of its hidden states.

A small model that is asked for a command's name gives a poor answer, but its states know better: what the
catalogue's examples mean can be read from the states behind them (a probe, Alain & Bengio 2016), also of
wordings that share no word with any example. It is read by kernel ridge regression (Rifkin & Lippert 2003).
Of MASSIVE's English, with 10 or all examples of an intent, Qwen2.5-Coder 0.5B so understands 1.1 and 2.1 in
100 more than by least squares.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kylin_gguf.actuator import ridge
from kylin_gguf.actuator.ridge import Indices, Vector, targets
from kylin_gguf.actuator.shortlist import Meaning

KIND = "rbf"
"""Of readouts; what is kept of another kind is of no use."""

RIDGE = 0.1
"""On MASSIVE's training rows; the optimum is flat, a factor of three either way costs under half a point."""
AXES = 256
"""Principal axes of the examples' states that are kept: with 128 to 384 of them, or with all 896 of
Qwen2.5-Coder 0.5B, equally many are right."""

MAX_TRUST = 1.0
"""Never more than the wording. With 1.4, which the examples would allow Qwen2.5-Coder 0.5B, as many of those
that are left out are understood, within a row in 500."""


@dataclass(frozen=True)
class Readout:
    """What was learnt from one catalogue's examples and one model. Immutable.

    ``mean`` has the width of the model, ``axes`` that times at most AXES. ``points``, shape (axes, examples),
    are where on those the examples lie, in directions of length 1; ``weights`` has the shape (examples,
    ``len(meanings)``). ``trust`` is how much its scores should count beside those of the wording.
    """

    meanings: tuple[Meaning, ...]
    mean: Vector
    axes: Vector
    points: Vector
    weights: Vector
    trust: float

    @classmethod
    def fit(cls, states: Vector, meanings: Sequence[Meaning]) -> Readout:
        """Learn from ``states``, shape (examples, width), and the meaning of each.

        How far to trust the outcome, the examples say themselves: half the odds that one is understood when
        it is left out, as far as MAX_TRUST.
        """
        known = tuple(dict.fromkeys(meanings))
        number = {meaning: i for i, meaning in enumerate(known)}
        classes: Indices = np.array([number[meaning] for meaning in meanings], np.int32)
        wanted = targets(classes, len(known))
        # Beside how often a meaning is shown: else the many examples of no command speak for none.
        wanted -= wanted.mean(axis=0)
        mean: Vector = states.mean(axis=0)
        rows = _unit(states - mean)
        axes: Vector = np.ascontiguousarray(np.linalg.eigh(rows.T @ rows)[1][:, -AXES:])
        points = _unit(rows @ axes)
        kernel = np.exp(points @ points.T - 1)
        weights = ridge.fit(kernel, wanted, RIDGE)
        held_out = wanted - ridge.residuals(kernel, weights)
        right = float(np.mean(held_out.argmax(axis=1) == classes))
        trust = min(right / (2 * max(1 - right, 1e-6)), MAX_TRUST)
        return cls(known, mean, axes, np.ascontiguousarray(points.T), weights, trust)

    def scores(self, state: Vector, trust: float) -> dict[Meaning, float]:
        """Return what to add to the score of each meaning for an utterance's ``state``, shape (width,): its
        outputs, which are about 0 to 1, times ``trust``.

        A state that is no state adds nothing.
        """
        with np.errstate(all="ignore"):
            point = _unit(ridge.outputs(_unit(state - self.mean), self.axes))
            outputs = trust * ridge.outputs(np.exp(ridge.outputs(point, self.points) - 1), self.weights)
            outputs = np.nan_to_num(outputs, posinf=0.0, neginf=0.0)
        return dict(zip(self.meanings, outputs.tolist(), strict=True))

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return what ``from_arrays`` takes, for the same meanings in the same order."""
        return {
            "mean": self.mean,
            "axes": self.axes,
            "points": self.points.astype(np.float16),
            "weights": self.weights.astype(np.float16),
            "trust": np.array([self.trust], np.float32),
        }

    @classmethod
    def from_arrays(cls, meanings: Sequence[Meaning], arrays: Mapping[str, NDArray[np.generic]]) -> Readout:
        """Return the readout that ``arrays`` was made of.

        Raises:
            KeyError, ValueError: ``arrays`` is something else.
        """
        mean, axes, points, weights = (
            arrays[name].astype(np.float32) for name in ("mean", "axes", "points", "weights")
        )
        fitting = axes.shape[:1] == mean.shape and points.shape == (*axes.shape[1:], *weights.shape[:1])
        if not fitting or weights.shape[1:] != (len(meanings),):
            raise ValueError(f"arrays that do not fit each other, or {len(meanings)} meanings")
        return cls(tuple(meanings), mean, axes, points, weights, float(arrays["trust"].astype(np.float32)[0]))


def _unit(rows: Vector) -> Vector:
    lengths = np.linalg.norm(rows, axis=-1, keepdims=True)
    unit: Vector = (rows / np.maximum(lengths, np.float32(1e-6))).astype(np.float32)
    return unit
