"""Read what people say from a catalogue: phrases, examples, and the places of values in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from kylin_gguf.actuator import patterns
from kylin_gguf.actuator.arguments import (
    NUMBER,
    Argument,
    ChoiceArgument,
    NumericArgument,
    TextArgument,
    slot,
)
from kylin_gguf.actuator.catalogue import LANGUAGES, Example
from kylin_gguf.actuator.node import Node
from kylin_gguf.actuator.patterns import SLOT, Pattern
from kylin_gguf.actuator.quantities import read as read_quantities
from kylin_gguf.actuator.values import numbers
from kylin_gguf.actuator.wording import normalise

MAX_PHRASES = 1000
Forms = tuple[tuple[str, str], ...]


def phrases(node: Node) -> list[str]:
    """Return the phrases of both languages, in the normal form that utterances are compared in."""
    found = []
    for items in node.record(LANGUAGES).values():
        for item in items.sequence(MAX_PHRASES):
            found.append(normalise(item.text()))
            if not found[-1]:
                item.fail("nothing is left of the phrase")
    return found


def examples(node: Node, command: str | None, forms: Forms = ()) -> list[Example]:
    """Return the phrases at ``node`` as examples of ``command``."""
    return [Example(text, command, forms) for text in phrases(node)]


def without_slots(node: Node, found: list[Example]) -> list[Example]:
    """Return ``found``; raises CommandsInvalid when one has a ``<name>``, which means nothing there."""
    for example in found:
        if SLOT.search(example.text):
            node.fail(f"'{example.text}': only a command's own examples can have a <name>")
    return found


def slotted(node: Node, found: Iterable[Example], arguments: Sequence[Argument]) -> list[Example]:
    """Return ``found`` with every ``<name>`` among their forms.

    Raises:
        CommandsInvalid: it names no choice or text argument of the command.
    """
    known = [a.name for a in arguments if isinstance(a, ChoiceArgument | TextArgument)]
    marked = []
    for example in found:
        names = SLOT.findall(example.text)
        for name in names:
            if name not in known:
                node.fail(f"'{example.text}': <{name}> is no choice or text argument of this command")
        forms = (*example.forms, *((name, slot(name)) for name in dict.fromkeys(names)))
        marked.append(replace(example, forms=forms) if example.command else example)
    return marked


def numbered(found: list[Example], arguments: Sequence[Argument]) -> list[Example]:
    """Mark the examples that contain a value of the command's only numeric argument."""
    numeric = [a for a in arguments if isinstance(a, NumericArgument)]
    if len(numeric) != 1:
        return found
    [argument] = numeric
    marked = ((argument.name, NUMBER),)
    return [replace(e, forms=marked) if numbers(argument, read_quantities(e.text)) else e for e in found]


def text_patterns(node: Node, found: Iterable[Example], arguments: Sequence[Argument]) -> tuple[Pattern, ...]:
    """Return where the text arguments stand, from the examples in which they do.

    Raises:
        CommandsInvalid: an example has some of them only, or nothing between two; or none has any.
    """
    wanted = {a.name for a in arguments if isinstance(a, TextArgument)}
    read = []
    for example in found:
        given = wanted.intersection(SLOT.findall(example.text))
        if not given:
            continue
        refuses = example.command is None
        if given != wanted and not refuses:
            node.fail(f"'{example.text}': without {', '.join(map(slot, sorted(wanted - given)))}")
        try:
            pattern = patterns.parse(example.text, refuses=refuses)
        except ValueError as error:
            node.fail(f"'{example.text}': {error}")
        if pattern is not None:
            read.append(pattern)
    if wanted and all(pattern.refuses for pattern in read):
        node.fail(f"no example has {', '.join(map(slot, sorted(wanted)))}, so it could have no value")
    return patterns.ordered(read)
