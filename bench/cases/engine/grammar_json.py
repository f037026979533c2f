"""What it costs to force the answer into JSON."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator

from bench.case import Bar, Case, Contender, Figure, Prepared, Sample, Wanted
from bench.chat import check_tokens, facts, user
from bench.contenders import CONTEXT_LENGTH, ours

GRAMMAR, SCHEMA, FREE = "grammar", "schema", "free"
_PROMPT = (
    "List one hundred animals as a JSON array of objects with the keys name, colour, legs and food. "
    "Answer with the JSON only."
)
# RFC 8259, without empty objects and without the layout, with both of which a model can fill a page.
_GBNF = r"""
root   ::= array
value  ::= object | array | string | number | "true" | "false" | "null"
object ::= "{" ws member ( "," ws member )* ws "}"
member ::= string ":" ws value
array  ::= "[" ws ( value ( "," ws value )* )? ws "]"
string ::= "\"" char* "\""
char   ::= [^"\\\x00-\x1f] | "\\" ( ["\\/bfnrt] | "u" hex hex hex hex )
hex    ::= [0-9a-fA-F]
number ::= "-"? ( "0" | [1-9] [0-9]* ) ( "." [0-9]+ )? ( [eE] [+-]? [0-9]+ )?
ws     ::= [ \n]? [ ]? [ ]? [ ]? [ ]?
"""
_ANIMAL = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "colour": {"type": "string"},
        "legs": {"type": "integer"},
        "food": {"type": "string"},
    },
    "required": ["name", "colour", "legs", "food"],
    "additionalProperties": False,
}
_JSON_SCHEMA = json.dumps({"type": "array", "items": _ANIMAL, "minItems": 20})


@contextlib.asynccontextmanager
async def _prepare(wanted: Wanted) -> AsyncIterator[Prepared]:
    tokens = wanted.parameters["tokens"]
    async with ours(wanted) as mine:

        async def sample(grammar: str = "", json_schema: str = "") -> Sample:
            asked = user(_PROMPT)
            reply = await mine.chat(asked, tokens + 1, grammar=grammar, json_schema=json_schema)
            check_tokens(reply, completion=tokens + 1)
            return Sample({"decode": reply.decode_tokens_per_s}, facts(reply))

        contenders = {
            GRAMMAR: Contender(lambda _: sample(grammar=_GBNF), mine.processes),
            SCHEMA: Contender(lambda _: sample(json_schema=_JSON_SCHEMA), mine.processes),
            FREE: Contender(lambda _: sample(), mine.processes),
        }
        yield Prepared(contenders, {"threads": mine.threads, "context_length": CONTEXT_LENGTH})


CASE = Case(
    name="engine/grammar-json",
    measures="the same question, answered under a grammar of JSON, under a JSON schema, and freely",
    figures=(Figure("decode", "tokens/s", "higher", "speed after the first token, as the engine counts it"),),
    bars=(Bar("decode", 0.95, FREE, of=GRAMMAR), Bar("decode", 0.95, FREE, of=SCHEMA)),
    parameters={"tokens": 128},
    prepare=_prepare,
)
