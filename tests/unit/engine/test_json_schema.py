"""Schemas become grammars that hold what the schema says, or are refused by name."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from kylin_gguf.engine.sampling import Sampler
from kylin_gguf.engine.sampling.grammar import Grammar
from kylin_gguf.engine.sampling.json_schema import MAX_CHARS, MAX_COUNT, to_gbnf
from kylin_gguf.errors import InvalidGrammar
from kylin_gguf.records import SamplingOptions

from .conftest import Vocabulary
from .test_sampling import Outputs


def matches(vocabulary: Vocabulary, schema: Any, text: str) -> bool:
    """Return whether ``text`` is a whole answer under ``schema``."""
    grammar = Grammar(vocabulary, to_gbnf(json.dumps(schema)))
    try:
        for byte in text.encode():
            if not grammar.allows(byte):
                return False
            grammar.accept(byte)
        return grammar.allows(vocabulary.size - 1)
    finally:
        grammar.close()


PERSON = {
    "type": "object",
    "properties": {"title": {"type": "string", "maxLength": 5}, "age": {"type": "integer"}},
    "required": ["title"],
}
TREE = {
    "$ref": "#/$defs/my_node",
    "$defs": {
        "my_node": {
            "type": "object",
            "properties": {
                "my_node": {"enum": ["x"]},
                "below": {"type": "array", "items": {"$ref": "#/$defs/my_node"}},
            },
            "required": ["my_node", "below"],
        }
    },
}
SAME_NAMES = {
    "type": "object",
    "properties": {"item": {"type": "boolean"}, "other": {"$ref": "#/$defs/item"}},
    "required": ["item", "other"],
    "$defs": {"item": {"type": "null"}},
}


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({}, '[1,{"a":null}]', "x"),
        ({"description": "anything"}, '"x"', ""),
        ({"type": "string"}, '"a\\"好"', '"a\nb"'),
        (PERSON, '{"title":"Ada","age":36}', '{"age":36}'),
        (PERSON, '{"title":"Ada"}', '{"title":"Ada","else":1}'),
        (PERSON, '{"title":"12345"}', '{"title":"123456"}'),
        ({"enum": ['a"b', "c\\d", "好😀\n"]}, '"a\\"b"', '"a"b"'),
        ({"enum": ['a"b', "c\\d", "好😀\n"]}, '"好😀\\n"', '"好😀\n"'),
        ({"const": 'quote " in it'}, '"quote \\" in it"', '"quote'),
        ({"type": ["integer", "null"]}, "null", "1.5"),
        ({"anyOf": [{"type": "boolean"}, {"type": "number"}]}, "-1.5e3", "null"),
        ({"type": "array", "items": {}, "minItems": 1, "maxItems": 2}, '[1,"a"]', "[]"),
        ({"type": "array", "items": {"type": "integer"}, "maxItems": MAX_COUNT}, "[]", "[true]"),
        ({"prefixItems": [{"type": "integer"}, {"const": True}]}, "[1,true]", "[1]"),
        (
            {"type": "string", "maxLength": MAX_COUNT},
            '"' + "a" * MAX_COUNT + '"',
            '"' + "a" * (MAX_COUNT + 1),
        ),
        ({"type": "string", "format": "date"}, '"2026-11-25"', '"today"'),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, '{"a":1,"b":2}', '{"a":"b"}'),
        ({"type": "object", "additionalProperties": False}, "{}", '{"a":1}'),
        (TREE, '{"my_node":"x","below":[{"my_node":"x","below":[]}]}', '{"my_node":"x","below":["x"]}'),
        (SAME_NAMES, '{"item":true,"other":null}', '{"item":true,"other":true}'),
    ],
)
def test_an_answer_follows_its_schema(vocabulary: Vocabulary, schema: Any, good: str, bad: str) -> None:
    assert matches(vocabulary, schema, good)
    assert not matches(vocabulary, schema, bad)


@pytest.mark.parametrize(
    ("schema", "named"),
    [
        ({"not": {}}, "not"),
        ({"if": {}, "then": {}}, "if"),
        ({"type": "object", "patternProperties": {}}, "patternProperties"),
        ({"type": "object", "properties": {}, "minProperties": 1}, "minProperties"),
        ({"type": "array", "items": {}, "uniqueItems": True}, "uniqueItems"),
        ({"type": "array", "contains": {}}, "contains"),
        ({"type": "integer", "minimum": 1}, "minimum"),
        ({"type": "number", "multipleOf": 2}, "multipleOf"),
        ({"type": "string", "pattern": "^a$"}, "pattern"),
        ({"type": "string", "format": "email"}, "format"),
        ({"type": "string", "format": "date", "minLength": 2}, "format"),
        ({"allOf": [{}]}, "allOf"),
        ({"anyOf": [{}], "type": "string"}, "type"),
        ({"$ref": "#/$defs/a", "type": "string", "$defs": {"a": {}}}, "type"),
        ({"$ref": "https://example.org/schema"}, "ref"),
        ({"$ref": "#/$defs/missing"}, "missing"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}, "itself"),
        ({"properties": {"a": {"type": "array", "items": {"not": {}}}}}, "#/properties/a/items"),
        ({"properties": {"a": {}}, "required": ["b"]}, "required"),
        ({"properties": {"": {}}}, "named"),
        ({"properties": {"*": {}}}, "named"),
        ({"properties": {"$ref": {}}}, "named"),
        ({"type": "string", "minLength": MAX_COUNT + 1}, "minLength"),
        ({"type": "array", "items": {}, "minItems": 3, "maxItems": 2}, "minItems"),
        ({"type": "array", "minItems": 3}, "items"),
        ({"enum": [{"a": 1}]}, "values"),
        ({"enum": []}, "enum"),
        ({"enum": ["a"], "type": "integer"}, "integer"),
        ({"type": "text"}, "text"),
        (True, "object"),
        ([], "object"),
    ],
)
def test_what_cannot_be_held_is_refused_by_name(vocabulary: Vocabulary, schema: Any, named: str) -> None:
    with pytest.raises(InvalidGrammar, match=named):
        Grammar(vocabulary, to_gbnf(json.dumps(schema)))


@pytest.mark.parametrize(
    "text",
    [
        "{",
        '{"const": NaN}',
        '{"items":' * 20_000,
        '{"type":"string","description":"' + "a" * MAX_CHARS + '"}',
    ],
)
def test_what_is_no_schema_is_refused(text: str) -> None:
    with pytest.raises(InvalidGrammar):
        to_gbnf(text)


def test_random_draws_under_a_schema_are_json(vocabulary: Vocabulary) -> None:
    ends, quotes = vocabulary.size - 1, [vocabulary.token(text) for text in ('"', "}", "]")]
    for seed in range(8):
        generator = np.random.default_rng(seed)
        sampler = Sampler(vocabulary, SamplingOptions(json_schema="{}", seed=seed), [])
        text = b""
        for _ in range(400):
            row = (generator.standard_normal(vocabulary.size) * 2).astype(np.float32)
            row[[ends, *quotes]] += 8.0  # or it would never come to an end
            token = sampler.sample(Outputs([row]), 0)
            if vocabulary.is_end(token):
                break
            text += vocabulary.piece(token)
        sampler.close()
        assert vocabulary.is_end(token)
        json.loads(text)
