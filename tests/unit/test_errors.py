"""The error tree: codes are stable and unique, sentences can be formatted, errors cross processes."""

from __future__ import annotations

import time
from dataclasses import fields
from string import Formatter

import pytest

from kylin_gguf import errors
from kylin_gguf.errors.base import MAX_QUOTED

CLASSES = tuple(errors.all_errors())


def example(cls: type[errors.KylinError]) -> errors.KylinError:
    values = {"int": 7, "str": "text", "tuple[str, ...]": ("a", "b")}
    return cls(**{field.name: values.get(str(field.type), "x") for field in fields(cls)})


def test_codes_are_unique() -> None:
    codes = [cls.code for cls in CLASSES]
    assert len(codes) == len(set(codes))


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.code)
def test_every_sentence_uses_only_fields_the_class_has(cls: type[errors.KylinError]) -> None:
    names = {name for part in (cls.sentence, cls.remedy) for _, name, _, _ in Formatter().parse(part) if name}
    assert names <= {field.name for field in fields(cls)}
    assert "\n" not in str(example(cls)) and str(example(cls))


def test_a_sentence_quotes_no_more_than_a_path_is_long() -> None:
    value = "\x01" * 1_000_000
    for error in (errors.InvalidValue("stop", value, "x"), errors.UnknownOption(value, (value, "seed"))):
        assert len(error.message()) < 3 * MAX_QUOTED


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.code)
def test_every_error_crosses_a_process_border_whole(cls: type[errors.KylinError]) -> None:
    original = example(cls)
    copy = errors.from_wire(original.to_wire())
    assert type(copy) is cls and copy.fields() == original.fields()


def test_an_unknown_code_becomes_an_internal_error() -> None:
    assert isinstance(errors.from_wire({"code": "no.such", "fields": {}}), errors.InternalError)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("qwen", "qwen3-0.6b"), ("smolm2", "smollm2-135m-instruct"), ("zzz", None), ("", None)],
)
def test_near_names(name: str, expected: str | None) -> None:
    found = errors.near(name, ["qwen3-0.6b", "smollm2-135m-instruct", "gemma-3-1b"])
    assert (found[0] if found else None) == expected


def test_a_name_of_megabytes_is_near_to_none_at_once() -> None:
    known = [f"{letter}e{number}" for letter in "abcdefghij" for number in range(10)]
    began = time.monotonic()
    assert errors.near("e" * 1_000_000, known) == ()
    assert time.monotonic() - began < 5
