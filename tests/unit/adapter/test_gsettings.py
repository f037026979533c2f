"""Settings are read and written with the key's own type, and no text breaks out of its quotes."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from kylin_gguf.adapter.gsettings import Key, parse, quote
from kylin_gguf.adapter.outcome import Failed, Unavailable

SCHEMA = "org.test.lamp"
pytestmark = pytest.mark.usefixtures("settings")


@pytest.mark.parametrize(
    ("key", "value", "stored"),
    [
        ("level", 70, 70),
        ("level", "70", 70),
        ("name", "台灯 'a' \\ \"b\" $(reboot); `x`", "台灯 'a' \\ \"b\" $(reboot); `x`"),
        ("name", 14, "14"),
        ("name", "@as []", "@as []"),
        ("scale", 1.5, 1.5),
        ("scale", 2, 2.0),
        ("lit", "true", True),
        ("lit", "on", True),
        ("lit", False, False),
        ("mode", "night", "night"),
        ("count", 9, 9),
    ],
)
async def test_a_value_comes_back_as_it_was_set(key: str, value: int | float | str, stored: object) -> None:
    await Key(SCHEMA, key).set(value)
    found = await Key(SCHEMA, key).get()
    assert (found, type(found)) == (stored, type(stored))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("level", "loud"),
        ("level", 101),
        ("mode", "dusk"),
        ("lit", "perhaps"),
        ("scale", "1x"),
        ("colours", "x"),
    ],
)
async def test_a_value_that_does_not_fit_is_refused(key: str, value: int | str) -> None:
    before = await Key(SCHEMA, "level").get()
    with pytest.raises(Failed):
        await Key(SCHEMA, key).set(value)
    assert await Key(SCHEMA, "level").get() == before


@pytest.mark.parametrize(("schema", "key"), [(SCHEMA, "colour"), ("org.test.none", "level"), ("--help", "x")])
async def test_what_is_not_there_is_unavailable(schema: str, key: str) -> None:
    with pytest.raises(Unavailable):
        await Key(schema, key).kind()


async def test_a_list_is_no_plain_value() -> None:
    with pytest.raises(Failed, match="plain"):
        await Key(SCHEMA, "colours").get()


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=40))
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_quoting_is_undone_by_parsing(text: str) -> None:
    assert parse(quote(text)) == text
