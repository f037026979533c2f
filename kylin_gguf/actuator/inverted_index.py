"""TF-IDF vectors of a set of documents, by feature: which documents have it, and how strongly."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kylin_gguf.actuator.features import WEIGHTS, Feature
from kylin_gguf.actuator.ridge import Column, Indices, Vector


@dataclass(frozen=True)
class InvertedIndex:
    """``count`` documents as vectors of length 1, stored as the columns of a sparse matrix.

    Column ``rows[feature]`` is ``documents`` and ``strengths`` from ``starts[row]`` to ``starts[row + 1]``.
    """

    count: int
    rows: Mapping[Feature, int]
    starts: Indices
    documents: Indices
    strengths: Vector
    rarity: Vector
    """Inverse document frequency, by row."""

    @staticmethod
    def of(features: Sequence[set[Feature]]) -> InvertedIndex:
        """Return the index of documents that have these ``features``."""
        # Sets have another order in each process, and a package must not depend on it.
        counts = dict(sorted(Counter(feature for one in features for feature in one).items()))
        rows = {feature: row for row, feature in enumerate(counts)}
        starts = np.cumsum([0, *counts.values()], dtype=np.int32)
        rarity = np.array([_rarity(n, len(features)) for n in counts.values()], np.float32)
        index = InvertedIndex(
            len(features),
            rows,
            starts,
            np.empty(starts[-1], np.int32),
            np.empty(starts[-1], np.float32),
            rarity,
        )
        filled = starts[:-1].copy()
        for number, one in enumerate(features):
            for feature, strength in index.vector(one).items():
                row = rows[feature]
                index.documents[filled[row]], index.strengths[filled[row]] = number, strength
                filled[row] += 1
        return index

    def vector(self, features: set[Feature]) -> dict[Feature, float]:
        """Return each feature's share of a vector of length 1. One that no document has takes its share, too:
        what an utterance says beyond the examples makes it less like them."""
        unseen = _rarity(0, self.count)
        raw = {}
        for feature in sorted(features):  # sums round by their order
            row = self.rows.get(feature)
            raw[feature] = WEIGHTS[feature[0]] * (unseen if row is None else float(self.rarity[row]))
        length = math.sqrt(sum(weight * weight for weight in raw.values())) or 1.0
        return {feature: weight / length for feature, weight in raw.items()}

    def similarity(self, features: set[Feature]) -> Vector:
        """Return the cosine similarity of a text with these ``features`` to each document."""
        similarity = np.zeros(self.count, np.float32)
        for feature, weight in self.vector(features).items():
            row = self.rows.get(feature)
            if row is not None:
                documents, strengths = self._column(row)
                similarity[documents] += strengths * np.float32(weight)
        return similarity

    def having(self, feature: Feature) -> Indices:
        """Return the numbers of the documents that have ``feature``."""
        row = self.rows.get(feature)
        return self.documents[:0] if row is None else self._column(row)[0]

    def columns(self) -> Iterator[Column]:
        """Yield every feature's column."""
        return (self._column(row) for row in range(len(self.rows)))

    def _column(self, row: int) -> Column:
        part = slice(self.starts[row], self.starts[row + 1])
        return self.documents[part], self.strengths[part]

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return the index as arrays, for ``from_arrays``."""
        names = "\n".join(f"{kind}\t{text}" for kind, text in self.rows)
        return {
            "features": np.frombuffer(names.encode(), np.uint8),
            "starts": self.starts,
            "documents": self.documents,
            "strengths": self.strengths,
            "rarity": self.rarity,
        }

    @staticmethod
    def from_arrays(count: int, arrays: Mapping[str, NDArray[np.generic]]) -> InvertedIndex:
        """Return the index that ``arrays`` was made of.

        Raises:
            KeyError, ValueError: ``arrays`` is something else.
        """
        names = arrays["features"].tobytes().decode().split("\n")
        rows: dict[Feature, int] = {}
        for row, name in enumerate(names):
            kind, _, text = name.partition("\t")
            rows[kind, text] = row
        return InvertedIndex(
            count,
            rows,
            arrays["starts"].astype(np.int32, copy=False),
            arrays["documents"].astype(np.int32, copy=False),
            arrays["strengths"].astype(np.float32, copy=False),
            arrays["rarity"].astype(np.float32, copy=False),
        )


def _rarity(having: int, count: int) -> float:
    return math.log((count + 1) / (having + 1)) + 1
