"""Grammars that would end the process, hang it or fill the memory are refused before llama.cpp sees them."""

from __future__ import annotations

import pytest

from kylin_gguf.engine.sampling.gbnf import MAX_CHARS, MAX_NESTING, check
from kylin_gguf.engine.sampling.grammar import Grammar
from kylin_gguf.errors import InvalidGrammar

from .conftest import Vocabulary

HOSTILE = {
    "deep nesting": "root ::= " + "(" * 20_000 + '"a"' + ")" * 20_000,
    "counts down through zero": 'root ::= "a"{5,2}',
    "a long literal many times": 'root ::= "' + "a" * 30_000 + '"{2000}',
    "left recursion": 'root ::= root "a" | "b"',
    "left recursion behind what may be empty": 'root ::= a root "z" | "x"\na ::= b\nb ::= "" | "y"',
    "left recursion behind an empty set": 'root ::= a root "z" | "x"\na ::= b\nb ::= [^]',
    "left recursion through a group": 'root ::= ("x"? root)* "y"',
    "a repetition of repetitions": 'root ::= c{0,2000}\nc ::= b{0,2000}\nb ::= "x"?',
    "a token by name": 'root ::= "a" <[300]>',
    "anything but a token": "root ::= !<think>",
    "too long": 'root ::= "a"' + " " * MAX_CHARS,
    "NUL": 'root ::= "a"\0"b"',
    "half a surrogate pair": 'root ::= "\ud800"',
    "not a repetition": 'root ::= "a"{x}',
    "nothing to repeat": "root ::= *",
    "an open parenthesis": 'root ::= ("a"\nb ::= "c"',
    "a parenthesis too many": 'root ::= "a")',
    "an undefined rule": "root ::= a",
    "no rule": '"a"',
    "not a grammar": "root ::= $",
}


@pytest.mark.parametrize("source", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_grammars_are_refused(source: str) -> None:
    with pytest.raises(InvalidGrammar):
        check(source)


GOOD = {
    "escapes and comments": '# root ::= (\nroot ::= "a\\"(" [^\\]"\\\\-] # ( [ "',
    "lines": "root ::= (\n  a |\n  b\n)\na ::= [a-z]+ .?\nb ::= a{2,3} a{1,}\n",
    "right recursion": 'root ::= "a" root | "b"',
    "nested arrays": 'root ::= "[" (root ("," root)*)? "]"',
    "the last definition counts": 'root ::= root "a"\nroot ::= "b"',
    "as deep as may be": "root ::= " + "(" * MAX_NESTING + '"a"' + ")" * MAX_NESTING,
}


@pytest.mark.parametrize("source", GOOD.values(), ids=GOOD.keys())
def test_good_grammars_reach_llama_cpp_and_are_parsed(vocabulary: Vocabulary, source: str) -> None:
    Grammar(vocabulary, source).close()


@pytest.mark.parametrize("source", ['root ::= "a\\q"', 'start ::= "a"'])
def test_what_is_merely_wrong_is_refused_by_llama_cpp(vocabulary: Vocabulary, source: str) -> None:
    check(source)
    with pytest.raises(InvalidGrammar, match=r"llama\.cpp"):
        Grammar(vocabulary, source)
