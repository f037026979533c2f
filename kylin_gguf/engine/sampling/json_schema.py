"""JSON schemas to grammars, with the bindings' converter and without what it would silently ignore.

The converter (``llama_cpp.llama_grammar.SchemaConverter``) picks one rule for a schema by its keywords and
looks at no others. Here each schema may have only keywords that the rule uses, so an answer that follows the
grammar is valid, which ``oneOf`` weakens: it is read as ``anyOf``. Patterns are refused, since the
converter's let quotes into strings; so are bounds of numbers, for which it has no rule.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NoReturn

from llama_cpp.llama_grammar import PRIMITIVE_RULES, BuiltinRule, SchemaConverter

from kylin_gguf.errors import InvalidGrammar

MAX_CHARS = 65_536
MAX_COUNT = 400
"""Highest minItems, maxItems, minLength and maxLength: the converter writes each item out, and llama.cpp's
parser refuses what nests 1,000 deep (MAX_REPETITION_THRESHOLD)."""

Schema = dict[str, Any]

_ANNOTATIONS = frozenset(
    ("$schema", "$id", "$comment", "$defs", "definitions", "title", "description", "default", "examples")
) | {"deprecated", "readOnly", "writeOnly"}
_FORMATS = ("date", "time", "date-time", "uuid")
_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "null": (type(None),),
}
# The converter's own lets line breaks and other control characters into strings, which JSON does not.
_CHARACTER = BuiltinRule(
    r'[^"\\\x7F\x00-\x1F] | "\\" (["\\/bfnrt] | "u" [0-9a-fA-F] [0-9a-fA-F] [0-9a-fA-F] [0-9a-fA-F])'
)


class _Converter(SchemaConverter):  # type: ignore[misc] # the bindings are not typed
    """The bindings' converter, with any JSON for an empty schema, and with texts that are JSON."""

    def __init__(self) -> None:
        super().__init__(prop_order={}, allow_fetch=False, dotall=False, raw_pattern=False)

    def visit(self, schema: Schema, name: str) -> str:
        """Return the name of the rule for ``schema``; an empty one is any JSON, where the original takes
        objects."""
        if schema.keys() <= _ANNOTATIONS:
            rule = self._add_primitive("value", PRIMITIVE_RULES["value"])
            return str(self._add_rule(name or "root", rule))
        return str(super().visit(schema, name))

    def _add_primitive(self, name: str, rule: BuiltinRule) -> str:
        return str(super()._add_primitive(name, _CHARACTER if rule is PRIMITIVE_RULES["char"] else rule))

    def _format_literal(self, literal: str) -> str:
        """Return the GBNF literal for a JSON text. The original leaves backslashes as they are, so a
        quotation mark in a string would end the literal, and emoji would become halves of surrogate pairs."""
        text = json.dumps(json.loads(literal), ensure_ascii=False)
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def to_gbnf(source: str) -> str:
    """Return the grammar, in GBNF, of the JSON that the schema ``source`` describes.

    Raises:
        InvalidGrammar: it is no JSON schema, or says what cannot be held; the reason names the keyword and
        where.
    """
    if len(source) > MAX_CHARS:
        raise InvalidGrammar(f"the JSON schema has {len(source)} characters and may have {MAX_CHARS}")
    try:
        schema = json.loads(source, parse_constant=_refuse_constant)
        _check(schema, "#")
        converter = _Converter()
        converter.visit(converter.resolve_refs(_with_own_names(schema), ""), "")
    except RecursionError as error:
        raise InvalidGrammar("the JSON schema is nested too deeply") from error
    except ValueError as error:  # JSONDecodeError is one
        raise InvalidGrammar(f"the JSON schema is not JSON: {error}") from error
    return str(converter.format_grammar())


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"it contains {name}")


def _refuse(where: str, reason: str) -> NoReturn:
    raise InvalidGrammar(f"JSON schema, {where}: {reason}")


# --- what the converter holds -------------------------------------------------------------------------


def _check(schema: Any, where: str) -> None:
    """Refuse what the rule that the converter picks for ``schema`` does not look at, here and below."""
    if not isinstance(schema, dict):
        _refuse(where, "an object was expected")
    rule, used = _rule_of(schema)
    if unused := sorted(schema.keys() - _ANNOTATIONS - used):
        beside = ", ".join(sorted(schema.keys() & used))
        _refuse(where, f"'{unused[0]}' is not supported" + (f" beside {beside}" if beside else ""))
    rule(schema, where)
    for name in ("$defs", "definitions"):
        _check_all(schema.get(name, {}), f"{where}/{name}")


def _check_all(schemas: Any, where: str) -> None:
    named = dict(enumerate(schemas)) if isinstance(schemas, list) else schemas
    if not isinstance(named, dict):
        _refuse(where, "schemas were expected")
    for name, schema in named.items():
        _check(schema, f"{where}/{name}")


def _rule_of(schema: Schema) -> tuple[Callable[[Schema, str], None], frozenset[str]]:
    """Return how to check ``schema`` and the keywords that its rule uses, in the converter's order of
    choice."""
    kind = schema.get("type")
    for keyword, rule in (("$ref", _reference), ("oneOf", _union), ("anyOf", _union)):
        if keyword in schema:
            return rule, frozenset((keyword,))
    if isinstance(kind, list):
        return _types, frozenset(("type",))
    for keyword in ("const", "enum"):
        if keyword in schema:
            return _constants, frozenset((keyword, "type"))
    if kind is None and "properties" in schema:
        kind = "object"
    if kind is None and ("items" in schema or "prefixItems" in schema):
        kind = "array"
    if isinstance(kind, str) and kind in _RULES:
        return _RULES[kind]
    return _anything, frozenset(("type",) if "type" in schema else ())


def _reference(schema: Schema, where: str) -> None:
    if not isinstance(schema["$ref"], str) or not schema["$ref"].startswith("#/"):
        _refuse(where, "$ref can only be to a part of this schema, as in #/$defs/name")


def _union(schema: Schema, where: str) -> None:
    (keyword,) = schema.keys() & {"oneOf", "anyOf"}
    if not isinstance(schema[keyword], list) or not schema[keyword]:
        _refuse(where, f"{keyword} must be a list of schemas")
    _check_all(schema[keyword], f"{where}/{keyword}")


def _types(schema: Schema, where: str) -> None:
    for kind in schema["type"]:
        _check({"type": kind}, f"{where}/type")


def _anything(schema: Schema, where: str) -> None:
    if "type" in schema:
        _refuse(where, f"type is {json.dumps(schema['type'])[:40]} and must be one of {', '.join(_TYPES)}")


def _constants(schema: Schema, where: str) -> None:
    values = schema["enum"] if "enum" in schema else [schema["const"]]
    if not isinstance(values, list) or not values:
        _refuse(where, "enum must be a list of values")
    wanted = _TYPES.get(str(schema.get("type", "")), (object,))
    for value in values:
        if isinstance(value, dict | list):
            _refuse(where, "values can be texts, numbers, true, false and null")
        if not isinstance(value, wanted) or (isinstance(value, bool) and int in wanted):
            _refuse(where, f"{json.dumps(value)[:40]} is not of type {schema.get('type')}")


def _object(schema: Schema, where: str) -> None:
    properties, required = schema.get("properties", {}), schema.get("required", [])
    _check_all(properties, f"{where}/properties")
    if bad := sorted(properties.keys() & {"*", "$ref", ""}):  # what the converter uses for itself
        _refuse(where, f"a property cannot be named '{bad[0]}'")
    if not isinstance(required, list):
        _refuse(where, "required must be a list of names")
    for name in required:
        if name not in properties:
            _refuse(where, f"required names {json.dumps(name)[:40]}, which is not among the properties")
    additional = schema.get("additionalProperties", False)
    if not isinstance(additional, bool):
        _check(additional, f"{where}/additionalProperties")


def _array(schema: Schema, where: str) -> None:
    if "prefixItems" in schema:
        if schema.keys() & {"minItems", "maxItems"} or schema.get("items", False) is not False:
            _refuse(where, "prefixItems is supported alone, or with items false")
        _check_all(schema["prefixItems"], f"{where}/prefixItems")
        return
    if "items" in schema:
        _check(schema["items"], f"{where}/items")
    elif schema.keys() & {"minItems", "maxItems"}:
        _refuse(where, "minItems and maxItems are supported beside items only")
    _counts(schema, where, "minItems", "maxItems")


def _string(schema: Schema, where: str) -> None:
    if "format" in schema:
        if schema["format"] not in _FORMATS:
            _refuse(where, f"format can be {', '.join(_FORMATS)}")
        if schema.keys() & {"minLength", "maxLength"}:
            _refuse(where, "minLength and maxLength are not supported beside format")
    _counts(schema, where, "minLength", "maxLength")


def _counts(schema: Schema, where: str, least: str, most: str) -> None:
    values = [schema.get(least, 0), schema.get(most, MAX_COUNT)]
    for name, value in zip((least, most), values, strict=True):
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_COUNT:
            _refuse(where, f"{name} must be a whole number from 0 to {MAX_COUNT}")
    if values[0] > values[1]:
        _refuse(where, f"{least} is more than {most}")


def _plain(schema: Schema, where: str) -> None:
    """Nothing more to look at: a number, a truth value or null."""


_RULES: dict[str, tuple[Callable[[Schema, str], None], frozenset[str]]] = {
    "object": (_object, frozenset(("type", "properties", "required", "additionalProperties"))),
    "array": (_array, frozenset(("type", "items", "prefixItems", "minItems", "maxItems"))),
    "string": (_string, frozenset(("type", "format", "minLength", "maxLength"))),
    **{name: (_plain, frozenset(("type",))) for name in ("number", "integer", "boolean", "null")},
}


# --- references ---------------------------------------------------------------------------------------


def _with_own_names(schema: Schema) -> Schema:
    """Return ``schema`` with each reference to a definition of a name that nothing else has.

    The converter names a rule after the last part of the reference, and takes an existing rule of that name,
    be it a property's, for the same. Names must also be of letters, digits and hyphens for recursion to work.
    """
    prefix = "ref"
    while prefix in json.dumps(schema, ensure_ascii=False):
        prefix += "x"
    names: dict[str, str] = {}

    def renamed(part: Schema) -> Schema:
        if "$ref" in part:
            return {"$ref": f"#/$defs/{names.setdefault(part['$ref'], f'{prefix}-{len(names)}-d')}"}
        kept = {name: inner(name, value) for name, value in part.items() if name not in _ANNOTATIONS}
        return kept or {"$comment": "any"}  # the converter takes an empty schema of items for none

    def inner(keyword: str, value: Any) -> Any:
        if keyword == "properties":
            return {name: renamed(schema) for name, schema in value.items()}
        if keyword in ("anyOf", "oneOf", "prefixItems"):
            return [renamed(schema) for schema in value]
        schema_here = keyword in ("items", "additionalProperties") and isinstance(value, dict)
        return renamed(value) if schema_here else value

    whole = renamed(schema)
    definitions: Schema = {}
    while len(definitions) < len(names):  # a definition can bring more references
        for target, name in list(names.items()):
            if name not in definitions:
                definitions[name] = renamed(_resolve(schema, target))
    return {**whole, "$defs": definitions} if definitions else whole


def _resolve(schema: Schema, reference: str) -> Any:
    found: Any = schema
    for part in reference.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if not isinstance(found, dict) or key not in found:
            _refuse(reference, "there is no such definition")
        found = found[key]
    _check(found, reference)
    return found
