"""Documents that somebody, or an accident, has changed: for the reader, and for the service on the bus."""

from __future__ import annotations

import copy
from typing import Any

import yaml
from hypothesis import strategies as st

from tests.unit.actuator.catalogues import FIRST, PLAYER

EFFECTS = """
version: 1
commands:
  do.it:
    description: {zh: 做, en: Do it}
    kylin: {name: 做}
    answer: {zh: 做了<what>, en: "<what> done: <value>"}
    arguments:
      what:
        type: enum
        values: {a: {kylin: x, synonyms: {en: [alpha]}, effect: [{kind: launch, program: b}]}}
      level: {type: integer, min: 0, max: 9, step: 2, relative: {"+": {en: [up]}, "-": {en: [down]}}}
    examples: {zh: [做 5], en: [do it]}
    effect:
      - any:
        - {kind: dbus, bus: session, dest: org.a, path: /a, method: a.Set, args: [<level>], current: a.Get}
        - {kind: dbus-property, bus: system, dest: org.a, path: /, property: a.B, op: set, value: <level>}
      - {kind: gsettings, op: set, schema: org.ukui.a, key: b-c, value: <level>, divisor: 9}
      - {kind: application, id: org.a.desktop}
      - {kind: settings-page, page: Power}
      - {kind: kylin-actuator, instruction: set dark}
    availability: {all: [{kind: gsettings, schema: o.a, key: b}, {kind: dbus-name, bus: system, name: org.a}]}
"""


class Loader(yaml.SafeLoader):
    """Reads scalars as the format does: numbers are numbers, everything else is text."""


Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if tag.endswith((":int", ":float"))]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}

TREES = [yaml.load(text, Loader=Loader) for text in (FIRST, PLAYER, EFFECTS)]

VALUES: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from([None, True, 0, -1, 2, 1.5, 10**9, 10**30, float("nan"), float("inf")]),
    st.sampled_from(["", " ", "on", "<query>", "<x>", "x" * 201, "\u200b", "\n", "\ufdd0", "../sh", "-rf"]),
    st.sampled_from([[], {}, [[]], [None], {"zh": []}, {"zh": ["<query><query>"]}, {"en": ["x"] * 1001}]),
    st.sampled_from([{"type": "text"}, {"type": "choice", "list": "apps"}, {"kind": "shell"}]),
    st.text(max_size=12),
    st.integers(),
    st.floats(),
    st.lists(st.text(max_size=4), max_size=3),
    st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=3),
)


def _places(tree: Any, at: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Every path in ``tree`` but the empty one."""
    children = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [path for key, value in children for path in ((*at, key), *_places(value, (*at, key)))]


@st.composite
def trees(draw: st.DrawFn) -> Any:
    """A valid catalogue with one to four places removed, replaced, renamed, or copied from elsewhere."""
    tree = copy.deepcopy(draw(st.sampled_from(TREES)))
    for _ in range(draw(st.integers(1, 4))):
        *parents, last = draw(st.sampled_from(_places(tree)))
        node = tree
        for key in parents:
            node = node[key]
        match draw(st.sampled_from(["remove", "replace", "rename", "graft"])):
            case "remove":
                del node[last]
            case "replace":
                node[last] = copy.deepcopy(draw(VALUES))
            case "rename" if isinstance(node, dict):
                node[draw(st.one_of(st.text(max_size=8), st.sampled_from(["a.b", "zh", "x", "list"])))] = (
                    node.pop(last)
                )
            case _:
                found = tree
                for key in draw(st.sampled_from(_places(tree))):
                    found = found[key]
                node[last] = copy.deepcopy(found)
        if not _places(tree):
            break
    return tree


@st.composite
def documents(draw: st.DrawFn) -> str:
    """The YAML of such a tree, now and then with its text damaged."""
    text: str = yaml.safe_dump(draw(trees()), allow_unicode=True, sort_keys=False)
    if draw(st.integers(0, 3)) == 0:
        start = draw(st.integers(0, len(text)))
        damage = draw(
            st.sampled_from(
                ["", ": ", "- ", "{", "]", "&a ", "*a", "!!python/name:os.system ", "\t", "'", "\x00"]
            )
        )
        text = text[:start] + damage + text[start + draw(st.integers(0, 9)) :]
    return text
