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
        ("音量加10", ()),
        ("提到30", (30,)),
        ("降一半", ()),
        ("音量放到一半", (50,)),
        ("volume at half", (50,)),
        ("a half-deaf man", ()),
        ("half blind", ()),
        ("half of them", ()),
        ("half-volume", (50,)),
        ("跑一半", ()),
        ("讲到一半", ()),
        ("另一半", ()),
        ("旋转90度", ()),
        ("九十度", ()),
        ("rotate by ninety degrees", ()),
        ("1080p", ()),
        ("4k屏", ()),
        ("144hz屏幕", ()),
        ("打10086", ()),
        ("call 5551", ()),
        ("10086打不通", ()),
        ("365*24", ()),
        ("三十乘以五", ()),
        ("1920x1080", ()),
        ("2024-05-01", ()),
        ("十点半", ()),
        ("第3个", ()),
        ("缩放两倍", (200,)),
        ("scale it 2x", (200,)),
        ("1.25倍", (125,)),
        ("twice the size", (200,)),
        ("double click", ()),
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
        ("音量加10", "+"),
        ("缩放减25", "-"),
        ("亮度降二十", "-"),
        ("音量+5", "+"),
        ("音量-5", "-"),
        ("turn it up by 10", "+"),
        ("turn it up to 10", "+"),
        ("加到60", ""),
        ("别这么暗", "+"),
        ("别那么大声", "-"),
        ("别大声", "-"),
        ("怎么这么暗", "+"),
        ("屏幕没那么亮", ""),
        ("don't make it so bright", "-"),
        ("not so dim", "+"),
        ("less bright", "-"),
        ("less dim", "+"),
        ("more volume", "+"),
        ("less noise", "-"),
        ("more songs", ""),
        ("弱一点", "-"),
        ("强一点", "+"),
        ("太弱了", "+"),
        ("音量加倍", "+"),
        ("double the volume", "+"),
        ("double click", ""),
        ("减半", "-"),
        ("音量", ""),
    ],
)
def test_directions(text: str, directions: str) -> None:
    assert read(normalise(text)).directions == frozenset(directions)


def test_extremes_are_the_ends_of_the_range_asked_for() -> None:
    assert read("音量最大").values(0, 80) == (80,)
    assert read("minimum brightness").values(5, 80) == (5,)


@pytest.mark.parametrize(
    ("text", "extremes"),
    [
        ("速度最快", {"max"}),
        ("间隔最长", {"max"}),
        ("the fastest", {"max"}),
        ("slowest speed", {"min"}),
        ("最慢", {"min"}),
        ("最短", {"min"}),
        ("full volume", {"max"}),
        ("put it on full", {"max"}),
        ("a room full of people", set()),
        ("full speed", set()),
        ("go at full speed", set()),
        ("can you set it to maximum", {"max"}),
        ("可以调到最大吗", {"max"}),
        ("is the volume at maximum", set()),
        ("音量是最大吗", set()),
        ("音量是不是最大", set()),
        ("已经调到最大了吗", set()),
    ],
)
def test_extremes(text: str, extremes: set[str]) -> None:
    assert read(normalise(text)).extremes == extremes


@pytest.mark.parametrize(
    ("text", "unit", "values", "decimals"),
    [
        ("1.25", "", (), (1.25,)),
        ("一点五", "", (), (1.5,)),
        ("1.5秒", "ms", (1500,), (1500.0,)),
        ("1.5秒", "s", (), (1.5,)),
        ("half a second", "ms", (500,), (500.0,)),
        ("半秒", "ms", (500,), (500.0,)),
        ("一秒半", "毫秒", (1500,), (1500.0,)),
        ("two seconds", "ms", (2000,), (2000.0,)),
        ("2 seconds", "percent", (), ()),
        ("400毫秒", "ms", (400,), (400.0,)),
        ("400 ms", "ms", (400,), (400.0,)),
        ("the second screen", "ms", (), ()),
        ("三倍", "", (300,), (3.0,)),
        ("三点五倍", "", (350,), (3.5,)),
        ("three and a half", "", (), (3.5,)),
    ],
)
def test_units(text: str, unit: str, values: tuple[int, ...], decimals: tuple[float, ...]) -> None:
    found = read(normalise(text))
    assert found.values(0, 10_000, unit) == values
    assert found.decimals(0, 10_000, unit) == decimals


@given(st.text(max_size=80), st.integers(-50, 200), st.integers(0, 200))
def test_values_stay_in_range(text: str, low: int, width: int) -> None:
    values = read(normalise(text)).values(low, low + width)
    assert all(low <= value <= low + width for value in values)


@given(st.integers(0, 999))
def test_percentages_are_read_back(number: int) -> None:
    assert read(f"音量调到{number}%").values(0, 999) == (number,)


PIECES = [
    *"一二十百零半点倍秒成最大小高低加减降到别这么0159.-x%度 ",
    " half ",
    " to ",
    " a second",
    " full",
    " times",
]


@given(st.lists(st.sampled_from(PIECES), max_size=30))
def test_any_mixture_of_its_words_is_read(words: list[str]) -> None:
    text = normalise("".join(words))
    for number in read(text).numbers:
        assert 0 <= number.start < number.end <= len(text)
        assert number.value >= 0


@given(st.integers(1, 99), st.sampled_from([("加", "+"), ("升", "+"), ("减", "-"), ("降", "-")]))
def test_by_how_much_is_no_value_and_gives_a_direction(number: int, by: tuple[str, str]) -> None:
    verb, direction = by
    found = read(normalise(f"音量{verb}{number}%"))
    assert found.values(0, 100) == ()
    assert found.directions == {direction}
