"""What the model is asked: rank the candidates. A fixed, cacheable prefix first, the utterance last."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kylin_gguf.actuator.arguments import NUMBER, NumericArgument, Value
from kylin_gguf.actuator.candidates import Candidate
from kylin_gguf.actuator.catalogue import Command, CommandCatalogue, Example, canonical
from kylin_gguf.actuator.quantities import read
from kylin_gguf.actuator.values import numbers
from kylin_gguf.records import Message, ScoreRequest

NONE = "none"
# About 500 tokens: it takes room in a small model's context, and a plain CPU computes some hundred a second
# when the service starts or another request has displaced it.
PREFIX_CHARACTERS = 1600
_RULES = (
    "You translate what a computer user says, in Chinese or English, into one desktop command. "
    f'Answer "{NONE}" for small talk, questions about the world, and other devices or apps. Commands:'
)


def prefix(catalogue: CommandCatalogue) -> str:
    """Return the system message: the same for every utterance.

    Commands are grouped by what they act on (``volume: set level=0..100|+|-, get``). In a large catalogue
    the arguments are left out, then the last groups: every request brings the candidates it needs.
    """
    lines = _listing(catalogue.commands, signatures=True)
    if _length(lines) > PREFIX_CHARACTERS:
        lines = _listing(catalogue.commands, signatures=False)
    while _length(lines) > PREFIX_CHARACTERS:
        lines.pop()
    return "\n".join((_RULES, *lines))


def _length(lines: Sequence[str]) -> int:
    return sum(len(line) + 1 for line in lines)


def _listing(commands: Iterable[Command], *, signatures: bool) -> list[str]:
    groups: dict[str, list[str]] = {}
    for command in commands:
        topic, _, action = command.id.partition(".")
        arguments = "".join(f" {a.signature()}" for a in command.arguments) if signatures else ""
        groups.setdefault(topic, []).append(f"{action or topic}{arguments}")
    return [f"{topic}: {', '.join(actions)}" for topic, actions in groups.items()]


def _answer(example: Example, catalogue: CommandCatalogue) -> str | None:
    """The command an example stands for; None when it leaves an argument open."""
    if example.command is None:
        return NONE
    command, forms = catalogue.get(example.command), dict(example.forms)
    arguments: dict[str, Value] = {}
    for argument in command.arguments:
        form = forms.get(argument.name)
        if form is None:
            return None
        if isinstance(argument, NumericArgument) and form == NUMBER:
            arguments[argument.name] = numbers(argument, read(example.text))[0]
        else:
            arguments[argument.name] = form
    return canonical(command.id, arguments)


def request(
    catalogue: CommandCatalogue,
    system: str,
    text: str,
    examples: Sequence[Example],
    candidates: Sequence[Candidate],
) -> ScoreRequest:
    """Build the request; its continuations are the candidates in order, then ``none``.

    The utterance stays on one line of the user's turn and never enters the system message.
    """
    answered = [(e, _answer(e, catalogue)) for e in reversed(examples)]
    lines = [f"{e.text} -> {answer}" for e, answer in answered if answer is not None]
    messages = (Message("system", system), Message("user", "\n".join((*lines, f"{text} ->"))))
    return ScoreRequest(messages, (*(c.text for c in candidates), NONE))
