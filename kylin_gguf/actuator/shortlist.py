"""Which commands an utterance is like, from the catalogue's own examples alone.

Two views of one TF-IDF space are mixed: the similarity to the nearest example, and kernel ridge regression
(least-squares classification, Rifkin & Lippert 2003) over all examples, in which the examples of *no*
command are a class like any other and so push near misses away. Training is one Cholesky factorisation:
a fraction of a second for 1500 examples, some ten for the 8000 of the shipped catalogue, whose result
``shortlists`` therefore keeps on disk.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kylin_gguf.actuator import ridge
from kylin_gguf.actuator.catalogue import CommandCatalogue, Example
from kylin_gguf.actuator.features import TermMatcher, extract
from kylin_gguf.actuator.inverted_index import InvertedIndex
from kylin_gguf.actuator.repair import Repair
from kylin_gguf.actuator.ridge import Indices, Vector

# Both fitted together with features.WEIGHTS by bench/actuator_dev.py; the optimum is flat (a factor of two
# in RIDGE or 0.2 in NEAREST moves leave-one-out accuracy by under one point).
RIDGE = 0.35
NEAREST = 0.15


class Meaning(NamedTuple):
    """What a group of examples has in common: a command and the forms of its arguments, or no command."""

    command: str | None
    forms: tuple[tuple[str, str], ...] = ()


Scores = Mapping[Meaning, float]
"""How like each meaning an utterance is, about 0 to 1."""


def meaning_of(example: Example) -> Meaning:
    """Return what ``example`` is an example of."""
    return Meaning(example.command, example.forms)


class Shortlist:
    """The trained index of one catalogue. Immutable; safe to share between threads."""

    def __init__(
        self, catalogue: CommandCatalogue, trained: Mapping[str, NDArray[np.generic]] | None = None
    ) -> None:
        """Train on the examples of ``catalogue``, unless ``trained`` has what ``arrays`` returned for it.

        Raises:
            KeyError, ValueError: ``trained`` is something else.
        """
        self._examples: tuple[Example, ...] = tuple(catalogue.examples())
        self._terms = TermMatcher(catalogue.terms or {})
        self.meanings: tuple[Meaning, ...] = tuple(dict.fromkeys(meaning_of(e) for e in self._examples))
        index = {meaning: i for i, meaning in enumerate(self.meanings)}
        self._classes: Indices = np.array([index[meaning_of(e)] for e in self._examples], np.int32)
        if trained is None:
            self._index = InvertedIndex.of([extract(e.text, self._terms) for e in self._examples])
            self._weights = ridge.fit(self._kernel(), self._wanted(), RIDGE)
        else:
            self._index = InvertedIndex.from_arrays(len(self._examples), trained)
            self._weights = trained["weights"].astype(np.float32, copy=False)
        commands = [e.command for e in self._examples]
        self._repair = Repair(catalogue.terms or {}, self._terms, self._index, commands)

    @property
    def examples(self) -> tuple[Example, ...]:
        """What it was trained on."""
        return self._examples

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return what training came to."""
        return {**self._index.arrays(), "weights": self._weights}

    def _kernel(self) -> Vector:
        """Cosine similarity of every example with every other."""
        return ridge.similarities(self._index.columns(), len(self._examples))

    def _wanted(self) -> Vector:
        return ridge.targets(self._classes, len(self.meanings))

    def match(self, text: str) -> Scores:
        """Compare normalised ``text`` with every example."""
        similarity = self._index.similarity(extract(self._repair(text), self._terms))
        return self._mixed(similarity, ridge.outputs(similarity, self._weights))

    def nearest(self, text: str, count: int) -> tuple[tuple[Example, float], ...]:
        """Return the ``count`` examples that normalised ``text`` is most like, without the regression."""
        similarity = self._index.similarity(extract(text, self._terms))
        order = np.argsort(-similarity, kind="stable")[:count]
        return tuple((self._examples[i], float(similarity[i])) for i in order)

    def _mixed(self, similarity: Vector, regression: Vector) -> Scores:
        best = np.zeros(len(self.meanings), np.float32)
        np.maximum.at(best, self._classes, similarity)
        mixed = (1 - NEAREST) * regression + NEAREST * best
        return dict(zip(self.meanings, mixed.tolist(), strict=True))

    def leave_one_out(self) -> Sequence[tuple[Example, Scores]]:
        """Return each example with its scores against all others.

        The regression's held-out outputs come in closed form. Rarities are not relearnt.
        """
        factor = self._kernel()
        weights = ridge.fit(factor, self._wanted(), RIDGE)
        held_out = self._wanted() - ridge.residuals(factor, weights)
        similarity = self._kernel()
        np.fill_diagonal(similarity, 0.0)
        return [(e, self._mixed(similarity[i], held_out[i])) for i, e in enumerate(self._examples)]
