"""Numbers and directions, in both languages."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kylin_gguf.actuator.quantities import read
from kylin_gguf.actuator.wording import normalise


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("把音量调到百分之四十", (40,)),
        ("音量４０％", (40,)),
        ("volume to forty percent", (40,)),
        ("forty-five", (45,)),
        ("one hundred and twenty", (120,)),
        ("two thousand five hundred", (2500,)),
        ("亮度一半", (50,)),
        ("at half brightness", (50,)),
        ("three quarters", (75,)),
        ("三分之一", (33,)),
        ("两成", (20,)),
        ("三成半", (35,)),
        ("百分百", (100,)),
        ("一百二", (120,)),
        ("一千零二十", (1020,)),
        ("光标频率一千五", (1500,)),
        ("二五零", (250,)),
        ("字号十六", (16,)),
        ("速度改成三", (3,)),
        ("set it to 5", (5,)),
        ("从 30 调到 70", (30, 70)),
        ("换一个", ()),
        ("下一首", ()),
        ("第十个", ()),
        ("十分好看", ()),
        ("大一点", ()),
        ("just one more", ()),
        ("in half an hour", ()),
        ("at 7:30", ()),
        ("version 2.5", ()),
        ("144hz", ()),
        ("调高20", ()),
        ("turn it up by 10", ()),
        ("降到二十", (20,)),
        ("turn it down to 20", (20,)),
    ],
)
def test_values(text: str, values: tuple[int, ...]) -> None:
    assert read(normalise(text)).values(0, 10_000) == values


@pytest.mark.parametrize(
    ("text", "directions"),
    [
        ("大一点", "+"),
        ("小声点", "-"),
        ("太吵了", "-"),
        ("太暗了", "+"),
        ("有点暗", "+"),
        ("亮度不够", "+"),
        ("听不见", "+"),
        ("louder", "+"),
        ("too loud", "-"),
        ("not loud enough", "+"),
        ("turn it down", "-"),
        ("I can't hear anything", "+"),
        ("把音量调高20", "+"),
        ("音量", ""),
    ],
)
def test_directions(text: str, directions: str) -> None:
    assert read(normalise(text)).directions == frozenset(directions)


def test_extremes_are_the_ends_of_the_range_asked_for() -> None:
    assert read("音量最大").values(0, 80) == (80,)
    assert read("minimum brightness").values(5, 80) == (5,)


@given(st.text(max_size=80), st.integers(-50, 200), st.integers(0, 200))
def test_values_stay_in_range(text: str, low: int, width: int) -> None:
    values = read(normalise(text)).values(low, low + width)
    assert all(low <= value <= low + width for value in values)


@given(st.integers(0, 999))
def test_percentages_are_read_back(number: int) -> None:
    assert read(f"音量调到{number}%").values(0, 999) == (number,)


@given(st.text(max_size=60))
def test_normal_form_is_stable(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)
