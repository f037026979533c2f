"""Which commands an utterance is like, from the catalogue's own examples alone.

Two views of one TF-IDF space are mixed: the similarity to the nearest example, and kernel ridge regression
(least-squares classification, Rifkin & Lippert 2003) over all examples, in which the examples of *no*
command are a class like any other and so push near misses away. Training is one Cholesky solve; a
catalogue of 80 commands takes a fraction of a second, once a registration.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kylin_gguf.actuator.catalogue import CommandCatalogue, Example
from kylin_gguf.actuator.features import WEIGHTS, Feature, TermMatcher, extract

Vector = NDArray[np.float32]
Indices = NDArray[np.int32]

# Both fitted together with features.WEIGHTS by bench/actuator_dev.py; the optimum is flat (a factor of two
# in RIDGE or 0.2 in NEAREST moves leave-one-out accuracy by under one point).
RIDGE = 0.35
NEAREST = 0.15


class Meaning(NamedTuple):
    """What a group of examples has in common: a command and the forms of its arguments, or no command."""

    command: str | None
    forms: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Match:
    """How like each meaning an utterance is (about 0 to 1), and the examples it is nearest to."""

    scores: dict[Meaning, float]
    nearest: tuple[tuple[Example, float], ...]


def _meaning(example: Example) -> Meaning:
    return Meaning(example.command, example.forms)


class Shortlist:
    """The trained index of one catalogue. Immutable; safe to share between threads."""

    def __init__(self, catalogue: CommandCatalogue) -> None:
        self._examples: tuple[Example, ...] = tuple(catalogue.examples())
        self._terms = TermMatcher(catalogue.terms or {})
        features = [extract(e.text, self._terms) for e in self._examples]
        counts = Counter(feature for one in features for feature in one)
        self._rarity = {feature: self._idf(count) for feature, count in counts.items()}
        self._unseen = self._idf(0)
        self._postings = self._posted([self._weighted(one) for one in features])
        self.meanings: tuple[Meaning, ...] = tuple(dict.fromkeys(_meaning(e) for e in self._examples))
        index = {meaning: i for i, meaning in enumerate(self.meanings)}
        self._classes = np.array([index[_meaning(e)] for e in self._examples])
        kernel = self._kernel()
        kernel[np.diag_indices_from(kernel)] += RIDGE
        self._weights = np.linalg.solve(kernel, self._targets())

    def _idf(self, count: int) -> float:
        return math.log((len(self._examples) + 1) / (count + 1)) + 1

    def _weighted(self, features: set[Feature]) -> dict[Feature, float]:
        """Features with their share of a vector of length 1; unseen ones take theirs, and match nothing."""
        raw = {f: WEIGHTS[f[0]] * self._rarity.get(f, self._unseen) for f in features}
        length = math.sqrt(sum(weight * weight for weight in raw.values())) or 1.0
        return {feature: weight / length for feature, weight in raw.items()}

    def _posted(self, documents: Sequence[dict[Feature, float]]) -> dict[Feature, tuple[Indices, Vector]]:
        """Which documents have a feature, and how strongly: the sparse matrix, by column."""
        columns: dict[Feature, tuple[list[int], list[float]]] = {}
        for number, document in enumerate(documents):
            for feature, weight in document.items():
                numbers, weights = columns.setdefault(feature, ([], []))
                numbers.append(number)
                weights.append(weight)
        return {f: (np.array(n, np.int32), np.array(w, np.float32)) for f, (n, w) in columns.items()}

    def _kernel(self) -> Vector:
        """Cosine similarity of every example with every other."""
        kernel = np.zeros((len(self._examples), len(self._examples)), np.float32)
        for numbers, weights in self._postings.values():
            kernel[numbers[:, None], numbers] += weights[:, None] * weights
        return kernel

    def _targets(self) -> Vector:
        targets = np.zeros((len(self._examples), len(self.meanings)), np.float32)
        targets[np.arange(len(self._examples)), self._classes] = 1.0
        return targets

    def _similarity(self, text: str) -> Vector:
        similarity = np.zeros(len(self._examples), np.float32)
        for feature, weight in self._weighted(extract(text, self._terms)).items():
            posted = self._postings.get(feature)
            if posted is not None:
                similarity[posted[0]] += posted[1] * np.float32(weight)
        return similarity

    def match(self, text: str, *, nearest: int = 6) -> Match:
        """Compare normalised ``text`` with every example; keep the ``nearest`` ones for the model."""
        similarity = self._similarity(text)
        return self._mixed(similarity, similarity @ self._weights, nearest)

    def nearest(self, text: str, count: int) -> tuple[tuple[Example, float], ...]:
        """Return the ``count`` examples that normalised ``text`` is most like, without the regression."""
        return self._nearest(self._similarity(text), count)

    def _nearest(self, similarity: Vector, count: int) -> tuple[tuple[Example, float], ...]:
        order = np.argsort(-similarity, kind="stable")[:count]
        return tuple((self._examples[i], float(similarity[i])) for i in order)

    def _mixed(self, similarity: Vector, regression: Vector, nearest: int) -> Match:
        best = np.zeros(len(self.meanings), np.float32)
        np.maximum.at(best, self._classes, similarity)
        mixed = (1 - NEAREST) * regression + NEAREST * best
        scores = dict(zip(self.meanings, mixed.tolist(), strict=True))
        return Match(scores, self._nearest(similarity, nearest))

    def leave_one_out(self) -> Sequence[tuple[Example, Match]]:
        """Return each example with its match against all others.

        The regression's held-out outputs come in closed form: for example i, y_i minus row i of
        (K + RIDGE I)^-1 Y over that inverse's diagonal. Rarities are not relearnt.
        """
        kernel = self._kernel()
        inverse = np.linalg.inv(kernel + np.float32(RIDGE) * np.eye(len(kernel), dtype=np.float32))
        held_out = self._targets() - self._weights / np.diag(inverse)[:, None]
        np.fill_diagonal(kernel, 0.0)
        return [(e, self._mixed(kernel[i], held_out[i], 6)) for i, e in enumerate(self._examples)]
