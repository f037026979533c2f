"""Utterances as their frames: "open firefox" read as "open ▢", which is what an example "open <app>" says.

The names in a list change, and free text is new each time. So the examples are learnt with one symbol for any
such value, and an utterance is compared in its own words and with the values it gives replaced by the symbol.
"""

from __future__ import annotations

from collections.abc import Iterable

from kylin_gguf.actuator.arguments import ChoiceArgument, TextArgument
from kylin_gguf.actuator.catalogue import Command, Example
from kylin_gguf.actuator.patterns import SLOT, Spans, best_fit
from kylin_gguf.actuator.values import Utterance, within

SYMBOL = "\ufdd0"
"""A noncharacter, which no program may use as text: part of no word, and of no name in a catalogue."""
TERM = "<slot>"
"""What the symbol is called among a catalogue's terms; no author can give a term that name."""


def learnt(example: Example) -> str:
    """Return the text that an example is learnt as."""
    return SLOT.sub(SYMBOL, example.text)


def has_slots(command: Command) -> bool:
    """Whether a value of the command can be anything."""
    return any(isinstance(argument, ChoiceArgument | TextArgument) for argument in command.arguments)


def text_spans(command: Command, text: str) -> Spans | None:
    """Return where the text arguments of ``command`` stand in ``text``; None when they have no place."""
    texts = {argument.name for argument in command.arguments if isinstance(argument, TextArgument)}
    if not texts:
        return {}
    spans = best_fit(command.patterns, text)
    return None if spans is None else {name: spans[name] for name in texts}


def frame(command: Command, said: Utterance) -> str | None:
    """Return the utterance with the values of ``command``'s slots replaced; None when it gives none."""
    spans = text_spans(command, said.text)
    if spans is None:
        return None
    replaced = list(spans.values())
    for argument in command.arguments:
        if isinstance(argument, ChoiceArgument):
            named = [(f.start, f.end) for f in said.entries(argument.choices) if not within(f, spans)]
            if not named:
                return None
            replaced += named
    return _replace(said.text, replaced)


def _replace(text: str, spans: Iterable[tuple[int, int]]) -> str:
    """``text`` with the symbol in place of ``spans``; of two that overlap, the first."""
    parts, at = [], 0
    for start, end in sorted(spans):
        if start >= at:
            parts += [text[at:start], SYMBOL]
            at = end
    return "".join((*parts, text[at:]))
