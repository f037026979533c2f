"""Refuses grammars that would end the process, hang it or fill the memory before llama.cpp reads them.

``llama_grammar_parser`` catches its own errors, but not these: it recurses as deep as parentheses and rules
nest; a repetition ``{5,2}`` counts down through zero; a repeated literal is copied as often as it says; left
recursion behind rules that may be empty goes unnoticed (llama_grammar_detect_left_recursion looks at empty
alternatives only) and grows stacks without end; and a token named in a grammar can be allowed by
llama_grammar_apply_impl, but not by llama_grammar_accept_token, which throws. What is merely wrong is left to
llama.cpp.

What remains: an ambiguous grammar can need ever more stacks as the text grows. That costs the worker, no
more.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter

from kylin_gguf.errors import InvalidGrammar

MAX_CHARS = 65_536
MAX_NESTING = 1000
MAX_ELEMENTS = 100_000
"""Characters, sets and references after repetitions are written out; llama.cpp keeps 8 bytes for each."""
MAX_BRANCHES = 4000
"""Stacks that a rule may begin with; each is tried for each token."""

_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n]+|\#[^\r\n]*)
    | (?P<literal>"(?:[^"\\]|\\.)*")
    | (?P<set>\[(?:[^\]\\]|\\.)*\]|\.)
    | (?P<define>::=)
    | (?P<name>[A-Za-z0-9-]+)
    | (?P<repeat>[*+?]|\{[^}]*\})
    | (?P<open>\() | (?P<close>\)) | (?P<bar>\|)
    | (?P<token>!?<)""",
    re.VERBOSE | re.DOTALL,
)
_BRACES = re.compile(r"\{\s*([0-9]+)\s*(?:(,)\s*([0-9]*)\s*)?\}")
_SIGNS: dict[str, tuple[int, int | None]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}


@dataclass
class _Item:
    """A literal or set (``rule`` is empty) or a reference, and how often it comes."""

    rule: str
    size: int
    least: int = 1
    most: int | None = 1

    def repeat(self, least: int, most: int | None) -> None:
        self.size *= max(least, most or 1, 1)
        self.least *= least
        self.most = None if most is None or self.most is None else self.most * most


@dataclass
class _Rule:
    alternatives: list[list[_Item]] = field(default_factory=lambda: [[]])


def check(source: str) -> None:
    """Return if llama.cpp can be given ``source``, in GBNF.

    Raises:
        InvalidGrammar: it cannot; the reason says where or which rule.
    """
    if len(source) > MAX_CHARS:
        raise InvalidGrammar(f"it has {len(source)} characters and may have {MAX_CHARS}")
    if "\0" in source:  # where C would see its end
        raise InvalidGrammar("it contains the character NUL")
    if any("\ud800" <= character <= "\udfff" for character in source):
        raise InvalidGrammar("it cannot be written in UTF-8")
    rules = _read(source)
    items = [item for rule in rules.values() for items in rule.alternatives for item in items]
    elements = sum(item.size for item in items)
    if elements > MAX_ELEMENTS:
        raise InvalidGrammar(f"with its repetitions it has {elements} elements and may have {MAX_ELEMENTS}")
    missing = {item.rule for item in items if item.rule} - rules.keys()
    if missing:
        raise InvalidGrammar(f"rule '{min(missing)}' is not defined")
    _check_branches(rules, _empty_rules(rules))


# --- reading ------------------------------------------------------------------------------------------


def _tokens(source: str) -> Iterator[tuple[str, str]]:
    at = 0
    while at < len(source):
        match = _TOKEN.match(source, at)
        if match is None:
            raise InvalidGrammar(f"'{source[at : at + 20]}' at character {at} is not understood")
        at = match.end()
        kind = match.lastgroup or ""
        if kind == "token":
            raise InvalidGrammar("tokens by name or number (<…>) are not supported; write their text")
        if kind != "space":
            yield kind, match.group()


def _read(source: str) -> dict[str, _Rule]:
    """Return the rules by name; a group is a rule whose name is a number in parentheses."""
    rules: dict[str, _Rule] = {}
    nested: list[_Rule] = []
    tokens = list(_tokens(source))
    for index, (kind, text) in enumerate(tokens):
        if kind == "name" and tokens[index + 1 : index + 2] == [("define", "::=")]:
            if len(nested) > 1:
                raise InvalidGrammar(f"a parenthesis before rule '{text}' is not closed")
            nested = [rules.setdefault(text, _Rule())]
            nested[0].alternatives = [[]]  # as in llama.cpp, the last definition counts
        elif not nested:
            raise InvalidGrammar(f"'{text[:20]}' comes before the first rule")
        elif kind == "open":
            if len(nested) > MAX_NESTING:
                raise InvalidGrammar(f"parentheses are nested deeper than {MAX_NESTING}")
            name = f"({len(rules)})"
            rules[name] = _Rule()
            nested[-1].alternatives[-1].append(_Item(name, 1))
            nested.append(rules[name])
        elif kind == "close":
            nested.pop()
            if not nested:
                raise InvalidGrammar("a parenthesis is closed that was not opened")
        elif kind == "bar":
            nested[-1].alternatives.append([])
        elif kind == "repeat":
            _repeat(nested[-1].alternatives[-1], text)
        elif kind != "define":
            nested[-1].alternatives[-1].append(_Item(text if kind == "name" else "", _size(kind, text)))
    return rules


def _size(kind: str, text: str) -> int:
    """Return at least how many elements llama.cpp makes of a literal, set or name, 0 only where it makes
    none."""
    if kind == "name" or text == ".":
        return 1
    return len(text[1:-1].removeprefix("^") if kind == "set" else text[1:-1])


def _repeat(items: list[_Item], text: str) -> None:
    if not items:
        raise InvalidGrammar(f"there is nothing before '{text[:20]}' to repeat")
    least, most = _SIGNS.get(text, (0, None))
    if text not in _SIGNS:
        braces = _BRACES.fullmatch(text)
        if braces is None or len(text) > len("{65536 , 65536}"):
            raise InvalidGrammar(f"'{text[:20]}' is not a repetition")
        least = int(braces[1])
        most = least if braces[2] is None else int(braces[3]) if braces[3] else None
        if most is not None and most < least:
            raise InvalidGrammar(f"in '{text}' the most is less than the least")
    items[-1].repeat(least, most)


# --- what could be without end ------------------------------------------------------------------------


def _empty_rules(rules: dict[str, _Rule]) -> set[str]:
    """Return the rules that may stand for no text at all."""
    users: dict[str, set[str]] = {name: set() for name in rules}
    for name, rule in rules.items():
        for items in rule.alternatives:
            for item in items:
                if item.rule:
                    users[item.rule].add(name)
    empty: set[str] = set()
    waiting = set(rules)
    while waiting:
        name = waiting.pop()
        if name not in empty and any(
            all(_may_be_empty(item, empty) for item in items) for items in rules[name].alternatives
        ):
            empty.add(name)
            waiting |= users[name]
    return empty


def _may_be_empty(item: _Item, empty: set[str]) -> bool:
    return item.least == 0 or item.rule in empty or item.size == 0


def _firsts(rule: _Rule, empty: set[str]) -> Iterator[_Item]:
    """Yield what may stand first in ``rule``."""
    for items in rule.alternatives:
        for item in items:
            if item.size:
                yield item
            if not _may_be_empty(item, empty):
                break


def _check_branches(rules: dict[str, _Rule], empty: set[str]) -> None:
    firsts = {name: list(_firsts(rule, empty)) for name, rule in rules.items()}
    graph = {name: {item.rule for item in items if item.rule} for name, items in firsts.items()}
    try:
        order = list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        cycle = [name for name in error.args[1] if not name.startswith("(")]
        raise InvalidGrammar(f"rule '{cycle[0] if cycle else 'root'}' begins with itself") from error
    branches: dict[str, int] = {}
    for name in order:
        branches[name] = 1  # its end, if it may be empty
        for item in firsts[name]:
            # Only where the repeated thing may be empty does more than its first repetition begin at once.
            times = (item.most or 1) if item.rule in empty else 1
            branches[name] += times * (branches[item.rule] if item.rule else 1)
        if branches[name] > MAX_BRANCHES:
            raise InvalidGrammar(f"rule '{name}' can begin in more than {MAX_BRANCHES} ways")
