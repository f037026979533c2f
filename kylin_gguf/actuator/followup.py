"""What comes after a command and names nothing: "a bit more", "再小一点", "50", "turn it off again".

Read by closed lists of words. A word that is on none of them makes the utterance a new one: whoever says
"再亮一点" after a command for the sound names something else.
"""

from __future__ import annotations

import re
from typing import Literal

from kylin_gguf.actuator.arguments import (
    DOWN,
    UP,
    Arguments,
    EnumArgument,
    NumericArgument,
    Value,
)
from kylin_gguf.actuator.catalogue import Command, CommandCatalogue
from kylin_gguf.actuator.quantities import read
from kylin_gguf.actuator.values import numbers

Sense = Literal["+", "-", "again", "on", "off"]

_ZH_FILLING = re.compile(
    r"还是|再|还|又|更|改|要|请|帮我|麻烦|给我|我|把|将|它|这个|那个|稍微|稍|略|往|调|弄|搞|拉|放|变|得|可以|能|想|觉得|继续"
    r"|感觉|吗|吧|呢|啊|呀|嘛|了|的|一下|一点儿?|一点点|点儿?|一?些|一?档|一?格|来|去|重新|嗯|好|那|就|行"
)
_ZH: tuple[tuple[Sense, re.Pattern[str]], ...] = (
    ("-", re.compile(r"(?:太|过于|过|有点儿?|有些)[大高多长]|[大高多长]过头")),
    ("+", re.compile(r"(?:太|过于|过|有点儿?|有些)[小低少短]|[小低少短]过头")),
    ("again", re.compile(r"不够|差(?:一)?点|继续")),
    ("+", re.compile(r"(?:加|增|升|提|上)?[大高多上长]|增?加|升|不够[大高多长]")),
    ("-", re.compile(r"(?:减|降|缩|下)?[小低少下短]|减|降|不够[小低少短]")),
    ("on", re.compile(r"打?开|开启|启用|恢复")),
    ("off", re.compile(r"关[掉闭上]?|停用|禁用")),
)
_EN_FILLING = frozenset(
    (
        "a",
        "an",
        "and",
        "at",
        "bit",
        "can",
        "could",
        "ever",
        "go",
        "i",
        "it",
        "just",
        "keep",
        "little",
        "make",
        "me",
        "much",
        "now",
        "of",
        "ok",
        "okay",
        "one",
        "please",
        "put",
        "set",
        "slightly",
        "so",
        "some",
        "step",
        "still",
        "that",
        "the",
        "then",
        "to",
        "turn",
        "want",
        "with",
        "yes",
        "you",
        "would",
        "back",
        "switch",
        "once",
        "even",
        "damn",
    )
)
_EN: tuple[tuple[Sense, tuple[str, ...]], ...] = (
    ("again", ("again", "more", "further", "another")),
    ("+", ("up", "higher", "bigger", "larger", "longer", "increase", "raise")),
    ("-", ("down", "lower", "smaller", "shorter", "less", "decrease", "reduce")),
    ("on", ("on",)),
    ("off", ("off",)),
)
_EN_COMPLAINTS: tuple[tuple[Sense, re.Pattern[str]], ...] = (
    ("-", re.compile(r"\btoo (?:much|high|big|large|long)\b")),
    ("+", re.compile(r"\btoo (?:little|low|small|short)\b")),
    ("again", re.compile(r"\bnot (?:yet )?enough\b")),
)
_GOING_ON = re.compile(r"再|还|更|继续|\b(?:more|still|even|again|further|another)\b")
_PUNCTUATION = re.compile(r"[\s,.!?;:~。，！？、；：…%]+|百分之|\bpercent\b")
_LATIN = re.compile(r"[a-z]")
_SETTER = "set"


def following(
    text: str, catalogue: CommandCatalogue, last: str, arguments: Arguments
) -> tuple[str, Arguments] | None:
    """Return the command that normalised ``text`` means after the command ``last`` with ``arguments``.

    None when it is no follow-up, or one that nothing of that command can take.
    """
    command = _adjustable(catalogue, last)
    if command is None or len(command.arguments) != 1:
        return None
    argument = command.arguments[0]
    value: Value | None = None
    if isinstance(argument, NumericArgument):
        value = _number(text, argument)
        if value is None and argument.relative:
            value = _direction(_sense(text), arguments.get(argument.name))
    elif isinstance(argument, EnumArgument) and {"on", "off"} == {v.name for v in argument.values}:
        sense = _sense(text)
        value = sense if sense in ("on", "off") else None
    return None if value is None else (command.id, {argument.name: value})


def continues(text: str) -> bool:
    """Whether normalised ``text`` goes on about what it does not name: "再长一点", "even shorter"."""
    return _GOING_ON.search(text) is not None and _sense(text) is not None


def _adjustable(catalogue: CommandCatalogue, last: str) -> Command | None:
    """Return the command ``last``, or the one that sets what it asked for or switched: volume.set."""
    for name in (last, f"{last.rpartition('.')[0]}.{_SETTER}"):
        if name in catalogue and catalogue.get(name).arguments:
            return catalogue.get(name)
    return None


def _number(text: str, argument: NumericArgument) -> Value | None:
    """Return the one number that ``text`` consists of, as a value of ``argument``."""
    quantities = read(text)
    values = numbers(argument, quantities)
    rest, at = "", 0
    for number in quantities.numbers:
        rest, at = rest + text[at : number.start], number.end
    rest += text[at:]
    if quantities.extremes:
        rest = re.sub(r"最[大高多小低少]|\b(?:max|min)(?:imum)?\b", "", rest)
    return values[0] if len(values) == 1 and not _says_more(rest) else None


def _says_more(text: str) -> bool:
    """Whether ``text`` has anything in it besides words that go with a value."""
    if _LATIN.search(text):
        return bool(set(_PUNCTUATION.sub(" ", text).split()) - _EN_FILLING)
    return bool(re.sub(r"[到至成为设置]", "", _remaining(text)))


def _direction(sense: Sense | None, before: object) -> Value | None:
    if sense == "again":
        return before if isinstance(before, str) and before in (UP, DOWN) else UP
    return sense if sense in (UP, DOWN) else None


def _sense(text: str) -> Sense | None:
    """Return what ``text`` says once everything that says nothing is taken away."""
    plain = _PUNCTUATION.sub(" ", text).strip()
    if _LATIN.search(plain):
        return _english(plain)
    for sense, pattern in _ZH[:3]:
        if pattern.search(plain) and not _remaining(pattern.sub("", plain)):
            return sense
    core = _remaining(plain)
    if not core and re.search(r"再|继续|还要", plain):
        return "again"
    return next((sense for sense, pattern in _ZH[3:] if pattern.fullmatch(core)), None)


def _english(text: str) -> Sense | None:
    for complaint, pattern in _EN_COMPLAINTS:
        if pattern.search(text) and not set(pattern.sub("", text).split()) - _EN_FILLING:
            return complaint
    words = [word for word in text.replace("it's", "it").split() if word not in _EN_FILLING]
    senses = {next((sense for sense, known in _EN if word in known), None) for word in words}
    if senses == {"again"} or len(senses) == 1:
        return senses.pop()
    return next(iter(senses - {"again"})) if len(senses) == 2 and "again" in senses else None  # noqa: PLR2004


def _remaining(text: str) -> str:
    return _ZH_FILLING.sub("", _PUNCTUATION.sub("", text))
