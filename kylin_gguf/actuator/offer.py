"""What can be asked for at one moment, and how an utterance is compared with it."""

from __future__ import annotations

from dataclasses import dataclass

from kylin_gguf.actuator.catalogue import CommandCatalogue
from kylin_gguf.actuator.index import Index, together
from kylin_gguf.actuator.shortlist import Scores
from kylin_gguf.actuator.study import Heard
from kylin_gguf.actuator.values import Utterance


@dataclass(frozen=True)
class Offer:
    """What can be asked for at one moment: ``catalogue`` has every command of every catalogue."""

    catalogue: CommandCatalogue
    indexes: tuple[Index, ...]
    unavailable: frozenset[str]

    @property
    def knows_words(self) -> bool:
        """Whether utterances are compared by what words mean, too."""
        return all(index.shortlist.words for index in self.indexes)

    def match(self, text: str, heard: Heard | None = None) -> Scores:
        """Compare normalised ``text`` with every example of every catalogue; ``heard`` is what a model makes
        of it, if one was asked."""
        said = Utterance(text)
        if heard is None:
            return together(index.match(said, self.unavailable) for index in self.indexes)
        pairs = zip(self.indexes, heard.scores, strict=True)
        return together(index.match(said, self.unavailable, scores, heard.trust) for index, scores in pairs)
