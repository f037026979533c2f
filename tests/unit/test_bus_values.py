"""Values to and from D-Bus."""

from __future__ import annotations

from typing import Any

import pytest
from dbus_next._private.marshaller import Marshaller
from dbus_next.signature import Variant
from hypothesis import given
from hypothesis import strategies as st

from kylin_gguf.bus import values

INT64 = st.integers(-(2**63), 2**63 - 1)
SCALARS = st.one_of(st.booleans(), INT64, st.floats(allow_nan=False), st.text())
VALUES: Any = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(st.text(), min_size=1),
        st.dictionaries(st.text(), inner),
        st.lists(st.dictionaries(st.text(), inner), min_size=1, max_size=3),
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.text().filter(lambda s: "\0" not in s), VALUES))
def test_dictionaries_make_the_round_trip(value: dict[str, Any]) -> None:
    def without_nul(item: Any) -> Any:
        if isinstance(item, str):
            return values.text(item)
        if isinstance(item, dict):
            return {without_nul(k): without_nul(v) for k, v in item.items()}
        return [without_nul(i) for i in item] if isinstance(item, list) else item

    assert values.plain(values.dictionary(value)) == without_nul(value)


@given(st.dictionaries(st.text(st.characters()), st.one_of(VALUES, st.text(st.characters()))))
def test_whatever_is_converted_can_be_sent(value: dict[str, Any]) -> None:
    body = values.body("a{sv}", [value])
    marshaller = Marshaller("a{sv}", body)
    marshaller.marshall()
    assert b"\xed\xa0" not in bytes(marshaller.buffer), "half a surrogate pair is not UTF-8"


def test_nothing_is_absent() -> None:
    given_ = {"none": None, "empty": [], "no": False, "zero": 0, "text": ""}
    assert set(values.dictionary(given_)) == {"no", "zero", "text"}


def test_types_are_stable() -> None:
    given_ = {"b": True, "x": 1, "d": 1.0, "s": "1", "as": ["1"], "aa{sv}": [{"k": 1}], "a{sv}": {}}
    assert {key: v.signature for key, v in values.dictionary(given_).items()} == {key: key for key in given_}


def test_body_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="DBus STRING"):
        values.body("s", [1])
    with pytest.raises(ValueError, match="zip"):
        values.body("ss", ["one"])


def test_what_cannot_be_carried_is_replaced() -> None:
    assert values.text("a\0b") == "a\N{REPLACEMENT CHARACTER}b"
    assert "\udcff" not in values.text("\udcff")
    assert values.text("你好 😀") == "你好 😀"


def test_variants_are_taken_apart_at_any_depth() -> None:
    nested = {"a": Variant("a{sv}", {"b": Variant("v", Variant("as", ["c"]))})}
    assert values.plain(nested) == {"a": {"b": ["c"]}}
