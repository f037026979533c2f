"""What was measured of a model on a text: values by chunk, and their means with standard errors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any, Self


@dataclass(frozen=True)
class Estimate:
    """A mean over the chunks of a text and its standard error; no error where there is one chunk."""

    value: float
    error: float

    def to_json(self) -> dict[str, float]:
        """Return a JSON object."""
        return {"value": round(self.value, 6), "error": round(self.error, 6)}


@dataclass(frozen=True)
class Quality:
    """What was measured on one text.

    ``perplexities`` are the logarithms by chunk. The rest is against the reference and missing for itself:
    ``divergences`` are KL divergences in nats, ``same_top`` shares of tokens on which the likeliest is the
    same.
    """

    text: str
    tokens: int
    perplexities: tuple[float, ...]
    divergences: tuple[float, ...] = ()
    same_top: tuple[float, ...] = ()

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Rebuild from the fields that ``dataclasses.asdict`` gave, by way of JSON."""
        lists = {key: tuple(item) for key, item in value.items() if isinstance(item, list)}
        return cls(**{**value, **lists})

    @property
    def perplexity(self) -> Estimate:
        """Perplexity."""
        log = _estimate(self.perplexities)
        return Estimate(math.exp(log.value), math.exp(log.value) * log.error)

    @property
    def divergence(self) -> Estimate:
        """Mean KL divergence from the reference, in nats a token."""
        return _estimate(self.divergences)

    @property
    def agreement(self) -> Estimate:
        """Share of tokens on which both hold the same one likeliest."""
        return _estimate(self.same_top)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object."""
        result: dict[str, Any] = {
            "text": self.text,
            "tokens": self.tokens,
            "chunks": len(self.perplexities),
            "perplexity": self.perplexity.to_json(),
        }
        if self.divergences:
            result["kl_divergence"] = self.divergence.to_json()
            result["same_top"] = self.agreement.to_json()
        return result


def difference(one: Sequence[float], other: Sequence[float]) -> Estimate:
    """Return the mean of ``one - other``, chunk by chunk: what both find hard cancels out.

    Raises:
        ValueError: they are not of the same chunks.
    """
    return _estimate([a - b for a, b in zip(one, other, strict=True)])


def _estimate(values: Sequence[float]) -> Estimate:
    error = stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return Estimate(fmean(values), error)
