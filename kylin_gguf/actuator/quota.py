"""How much clients may register."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kylin_gguf.actuator.catalogue import CommandCatalogue
from kylin_gguf.errors import CatalogueLimit


@dataclass(frozen=True)
class Size:
    """How much catalogues have together."""

    catalogues: int
    commands: int
    examples: int

    def __add__(self, other: Size) -> Size:
        return Size(
            self.catalogues + other.catalogues, self.commands + other.commands, self.examples + other.examples
        )


EACH = Size(8, 500, 6000)
"""What one client may register."""
ALL = Size(40, 2000, 24_000)
"""What all clients may register together."""


def size(catalogue: CommandCatalogue) -> Size:
    """Return what ``catalogue`` counts against the limits."""
    return Size(1, len(catalogue.commands), sum(1 for _ in catalogue.examples()))


def check(new: Size, own: Sequence[Size], others: Sequence[Size]) -> None:
    """Refuse a ``new`` catalogue that does not fit beside its client's ``own`` and those of all clients.

    Raises:
        CatalogueLimit: it has too many commands or examples, or is one catalogue too many.
    """
    _check([*own, new], EACH, " per client")
    _check([*others, new], ALL, "")


def _check(sizes: Iterable[Size], limit: Size, whose: str) -> None:
    total = sum(sizes, Size(0, 0, 0))
    for what in ("catalogues", "commands", "examples"):
        if getattr(total, what) > getattr(limit, what):
            raise CatalogueLimit(f"{what}{whose}", getattr(limit, what))
