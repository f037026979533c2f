"""How far a piece of long work has come."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """How far a piece of long work has come. ``total`` is 0 while it is not known."""

    stage: str
    done: int
    total: int = 0
    unit: str = "bytes"

    @property
    def fraction(self) -> float:
        """Share done, 0 to 1."""
        return self.done / self.total if self.total else 0.0


ProgressCallback = Callable[[Progress], None]


def no_progress(_: Progress) -> None:
    """Ignore progress."""
