"""The closed set that an utterance may mean: commands with arguments read out of the utterance.

Nothing outside this set can be the answer, and every member passes ``CommandCatalogue.validate``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from kylin_gguf.actuator.arguments import MAX_ARGUMENTS, Arguments
from kylin_gguf.actuator.catalogue import Command, CommandCatalogue, canonical
from kylin_gguf.actuator.shortlist import Meaning, Scores
from kylin_gguf.actuator.slots import text_spans
from kylin_gguf.actuator.values import SAID, Choice, Utterance, choices

MAX_COMBINATIONS = 64
BOUND = SAID + 1e-6
"""What one argument can add to a score, and some more for rounding."""


@dataclass(frozen=True)
class Candidate:
    """A command that is valid by construction, and how well the catalogue's examples support it."""

    command: str
    arguments: Arguments
    score: float

    @property
    def text(self) -> str:
        """The canonical spelling."""
        return canonical(self.command, self.arguments)


def _support(chosen: Sequence[Choice], meanings: Sequence[tuple[Meaning, float]]) -> float | None:
    """Best score among the meanings that do not contradict ``chosen``; None if all do."""
    forms = {(choice.name, choice.form) for choice in chosen}
    scores = [score for meaning, score in meanings if forms.issuperset(meaning.forms)]
    return max(scores) + sum(choice.evidence for choice in chosen) if scores else None


def _of_command(
    command: Command, said: Utterance, meanings: Sequence[tuple[Meaning, float]]
) -> list[Candidate]:
    spans = text_spans(command, said.text)
    if spans is None:
        return []
    per_argument = [choices(argument, said, spans) for argument in command.arguments]
    found = []
    for chosen in itertools.islice(itertools.product(*per_argument), MAX_COMBINATIONS):
        score = _support(chosen, meanings)
        if score is not None:
            found.append(Candidate(command.id, {c.name: c.value for c in chosen}, score))
    return found


def enumerate_candidates(
    catalogue: CommandCatalogue, text: str, scores: Scores, limit: int, spoken: str = ""
) -> list[Candidate]:
    """Return the ``limit`` best supported candidates for normalised ``text``, best first.

    A command with an argument that the utterance gives no value for has none. ``spoken`` is ``text`` with the
    case of letters kept (``wording.spoken``), for arguments that are words of the user's own.
    """
    said = Utterance(text, spoken)
    by_command: dict[str, list[tuple[Meaning, float]]] = {}
    best: dict[str, float] = {}
    for meaning, score in scores.items():
        command_id = meaning.command
        if command_id is not None:
            by_command.setdefault(command_id, []).append((meaning, score))
            best[command_id] = max(score, best.get(command_id, score))
    found: list[Candidate] = []
    for command_id, score in sorted(best.items(), key=lambda item: -item[1]):
        # What no candidate of a command can exceed. So most of a thousand commands are never looked into.
        worst = found[-1].score if len(found) == limit else -math.inf
        if score + MAX_ARGUMENTS * BOUND < worst:
            break
        command = catalogue.get(command_id)
        if score + len(command.arguments) * BOUND >= worst:
            found += _of_command(command, said, by_command[command_id])
            found = sorted(found, key=lambda c: (-c.score, c.text))[:limit]
    return found
