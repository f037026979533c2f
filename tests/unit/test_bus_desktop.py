"""Plain values become the D-Bus type that a service states, or are refused."""

from __future__ import annotations

import pytest

from kylin_gguf.adapter.outcome import Failed
from kylin_gguf.bus.desktop import _typed


@pytest.mark.parametrize(
    ("kind", "value", "sent"),
    [
        ("i", 40, 40),
        ("u", "40", 40),
        ("y", 255, 255),
        ("t", 1.0, 1),
        ("d", 40, 40.0),
        ("d", "1.25", 1.25),
        ("b", "true", True),
        ("b", "on", True),
        ("b", "off", False),
        ("b", False, False),
        ("s", 40, "40"),
        ("s", "a\0b", "a\N{REPLACEMENT CHARACTER}b"),
        ("o", "/org/test", "/org/test"),
    ],
)
def test_a_value_gets_its_type(kind: str, value: int | float | str, sent: object) -> None:
    found = _typed(kind, value)
    assert (found, type(found)) == (sent, type(sent))


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("i", "loud"),
        ("u", -1),
        ("y", 256),
        ("i", "nan"),
        ("i", "1e400"),
        ("b", "perhaps"),
        ("b", 2),
        ("o", "no path"),
        ("v", "x"),
        ("as", "x"),
        ("a{sv}", "x"),
        ("h", "0"),
    ],
)
def test_what_does_not_fit_is_refused(kind: str, value: int | float | str) -> None:
    with pytest.raises(Failed):
        _typed(kind, value)
