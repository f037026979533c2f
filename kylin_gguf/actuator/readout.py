"""Which commands an utterance is like, from what a model makes of it: a readout of its hidden states.

A small model that is asked for a command's name gives a poor answer, but its states know better: what the
catalogue's examples mean can be read from the states behind them (a probe, Alain & Bengio 2016), also of
wordings that share no word with any example. There are two ways to read it, a ``KernelHead`` and a
``GaussianHead``; the one is taken by which more examples are right when they are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kylin_gguf.actuator import ridge
from kylin_gguf.actuator.gaussian_head import GaussianHead
from kylin_gguf.actuator.kernel_head import KernelHead
from kylin_gguf.actuator.ridge import Indices, Vector
from kylin_gguf.actuator.shortlist import Meaning

KIND = "two heads"
"""Of readouts; what is kept of another kind is of no use."""

AXES = 256
"""Principal axes of the examples' states that are kept: with 128 to 384 of them, or with all 896 of
Qwen2.5-Coder 0.5B, equally many are right."""

MAX_TRUST = 1.0
"""Never more than the wording. With 1.4, which the examples would allow Qwen2.5-Coder 0.5B, as many of those
that are left out are understood, within a row in 500."""


@dataclass(frozen=True)
class Readout:
    """What was learnt from one catalogue's examples and one model. Immutable.

    ``mean`` has the width of the model, ``axes`` that times at most AXES. ``trust`` is how much its scores
    should count beside those of the wording.
    """

    meanings: tuple[Meaning, ...]
    mean: Vector
    axes: Vector
    head: KernelHead | GaussianHead
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
        mean: Vector = states.mean(axis=0)
        rows = _unit(states - mean)
        axes: Vector = np.ascontiguousarray(np.linalg.eigh(rows.T @ rows)[1][:, -AXES:])
        head, right = max(_heads(_unit(rows @ axes), classes, len(known)), key=lambda found: found[1])
        trust = min(right / (2 * max(1 - right, 1e-6)), MAX_TRUST)
        return cls(known, mean, axes, head, trust)

    def scores(self, state: Vector, trust: float) -> dict[Meaning, float]:
        """Return what to add to the score of each meaning for an utterance's ``state``, shape (width,): its
        outputs, which are about 0 to 1, times ``trust``.

        A state that is no state adds nothing.
        """
        with np.errstate(all="ignore"):
            point = _unit(ridge.outputs(_unit(state - self.mean), self.axes))
            outputs = np.nan_to_num(trust * self.head.outputs(point), posinf=0.0, neginf=0.0)
        return dict(zip(self.meanings, outputs.tolist(), strict=True))

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return what ``from_arrays`` takes, for the same meanings in the same order."""
        trust = np.array([self.trust], np.float32)
        return {"mean": self.mean, "axes": self.axes, "trust": trust, **self.head.arrays()}

    @classmethod
    def from_arrays(cls, meanings: Sequence[Meaning], arrays: Mapping[str, NDArray[np.generic]]) -> Readout:
        """Return the readout that ``arrays`` was made of.

        Raises:
            KeyError, ValueError: ``arrays`` is something else.
        """
        mean, axes = arrays["mean"].astype(np.float32), arrays["axes"].astype(np.float32)
        kind = KernelHead if "weights" in arrays else GaussianHead
        head = kind.from_arrays(arrays)
        if (*axes.shape[:1], *head.shape) != (len(mean), *axes.shape[1:], len(meanings)):
            raise ValueError(f"arrays that do not fit each other, or {len(meanings)} meanings")
        return cls(tuple(meanings), mean, axes, head, float(arrays["trust"].astype(np.float32)[0]))


def _heads(
    points: Vector, classes: Indices, class_count: int
) -> Iterator[tuple[KernelHead | GaussianHead, float]]:
    """Yield both heads, each with the share of examples that it has right when they are left out."""
    if np.bincount(classes).min() > 1:
        yield GaussianHead.fit(points, classes, class_count)
    yield KernelHead.fit(points, classes, class_count)


def _unit(rows: Vector) -> Vector:
    lengths = np.linalg.norm(rows, axis=-1, keepdims=True)
    unit: Vector = (rows / np.maximum(lengths, np.float32(1e-6))).astype(np.float32)
    return unit
