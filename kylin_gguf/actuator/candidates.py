"""The closed set that an utterance may mean: commands with arguments read out of the utterance.

Nothing outside this set can be the answer, and every member passes ``CommandCatalogue.validate``.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kylin_gguf.actuator.arguments import Arguments
from kylin_gguf.actuator.catalogue import Command, CommandCatalogue, canonical
from kylin_gguf.actuator.shortlist import Match, Meaning
from kylin_gguf.actuator.slots import text_spans
from kylin_gguf.actuator.values import SAID, Choice, Utterance, choices

MAX_COMBINATIONS = 64
BOUND_PER_ARGUMENT = SAID + 1e-6  # the rest is for rounding


@dataclass(frozen=True)
class Candidate:
    """A command that is valid by construction, and how well the catalogue's examples support it."""

    command: str
    arguments: Arguments
    score: float

    @property
    def text(self) -> str:
        """The canonical spelling, which is what the model scores."""
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
    catalogue: CommandCatalogue, text: str, match: Match, limit: int, spoken: str = ""
) -> list[Candidate]:
    """Return the ``limit`` best supported candidates for normalised ``text``, best first.

    A command with an argument that the utterance gives no value for has none. ``spoken`` is ``text`` with the
    case of letters kept (``wording.spoken``), for arguments that are words of the user's own.
    """
    said = Utterance(text, spoken)
    by_command: dict[str, list[tuple[Meaning, float]]] = {}
    for meaning, score in match.scores.items():
        if meaning.command is not None:
            by_command.setdefault(meaning.command, []).append((meaning, score))
    found: list[Candidate] = []
    for bound, command_id in _by_bound(catalogue, by_command):
        if len(found) == limit and bound < found[-1].score:
            break
        found += _of_command(catalogue.get(command_id), said, by_command[command_id])
        found = sorted(found, key=lambda c: (-c.score, c.text))[:limit]
    return found


def _by_bound(
    catalogue: CommandCatalogue, meanings: Mapping[str, Sequence[tuple[Meaning, float]]]
) -> list[tuple[float, str]]:
    """Commands with what none of their candidates can score more than, greatest first.

    So most of a thousand commands are never looked into.
    """
    bounds = []
    for command, known in meanings.items():
        evidence = BOUND_PER_ARGUMENT * len(catalogue.get(command).arguments)
        bounds.append((max(score for _, score in known) + evidence, command))
    return sorted(bounds, reverse=True)
