"""Counts what the scheduler does. Nobody is told: whoever wants to know asks for a reading."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kylin_gguf.engine.step import Share


@dataclass
class Tally:
    """Sums since the model was loaded; each is described in ``records.Activity``."""

    requests: int = 0
    cache_hits: int = 0
    cached_tokens: int = 0
    prompt_tokens: int = 0
    generated_tokens: int = 0
    prompt_s: float = 0.0
    generated_s: float = 0.0

    def started(self, cached: int) -> None:
        """A request got a place that holds ``cached`` of its tokens."""
        self.requests += 1
        self.cache_hits += cached > 0
        self.cached_tokens += cached

    def decoded(self, shares: Sequence[Share], seconds: float) -> None:
        """A step was decoded, before anything is drawn from it."""
        streams = 0
        for share in shares:
            if share.run.prefilled:
                streams += 1
            else:
                self.prompt_tokens += share.tokens
        if streams < len(shares):
            self.prompt_s += seconds
        if streams:
            self.generated_s += seconds

    def drawn(self) -> None:
        """A token was drawn."""
        self.generated_tokens += 1
