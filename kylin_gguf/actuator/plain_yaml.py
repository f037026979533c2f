"""YAML from strangers: no code, no aliases, no surprises.

YAML's aliases can make a small text grow without bound when walked, deep nesting can exhaust the stack,
and YAML 1.1 reads ``on`` and ``no`` as booleans. None of these has a place in a catalogue.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

MAX_DEPTH = 16


class Unreadable(ValueError):
    """Text that is not the plain YAML this module accepts; its words say where and why."""


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # base chosen at run time
    """A safe loader, in C where libyaml is there, that knows text, numbers, true, false and null."""


_PLAIN_TAGS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:null")
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag in _PLAIN_TAGS]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_DECIMAL = re.compile(r"-?\d{1,9}\.\d{1,9}$")
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _DECIMAL, list("-0123456789"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"(?:true|false)$"), list("tf"))


def _unique_mapping(loader: Any, node: yaml.MappingNode) -> dict[str, Any]:
    mapping: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str) or key in mapping:
            raise Unreadable(f"line {key_node.start_mark.line + 1}: key {key!r} is repeated or not text")
        mapping[key] = loader.construct_object(value_node, deep=True)
    return mapping


_Loader.add_constructor("tag:yaml.org,2002:map", _unique_mapping)


def parse(text: str) -> Any:
    """Return the value of one YAML document; raises Unreadable."""
    depth = 0
    try:
        for event in yaml.parse(text, Loader=_Loader):
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if isinstance(event, yaml.AliasEvent) or depth > MAX_DEPTH:
                line = event.start_mark.line + 1 if event.start_mark else "?"
                raise Unreadable(f"line {line}: aliases and deep nesting are not allowed")
        return yaml.load(text, Loader=_Loader)
    except Unreadable:
        raise
    except (yaml.YAMLError, ValueError) as error:
        raise Unreadable(" ".join(str(error).split())[:300]) from error
