"""Which words of a catalogue are heard in an utterance."""

import pytest

from kylin_gguf.actuator.features import TermMatcher

SWITCH = TermMatcher({"on": ("开", "打开", "on"), "off": ("关", "关闭", "别", "off")})


@pytest.mark.parametrize(
    ("text", "concepts"),
    [
        ("打开蓝牙", ["on"]),
        ("把蓝牙开了", ["on"]),
        ("开机时关蓝牙", ["off"]),
        ("开会的时候别响", ["off"]),
        ("关于蓝牙", []),
        ("公开的蓝牙", []),
        ("特别喜欢", []),
        ("turn it off right now", ["off"]),
        ("what about my day off", []),
        ("offer", []),
    ],
)
def test_a_term_is_not_found_inside_a_word_that_means_something_else(text: str, concepts: list[str]) -> None:
    assert SWITCH.find(text) == concepts


def test_such_a_word_is_found_where_the_catalogue_has_it() -> None:
    boot = TermMatcher({"on": ("开",), "boot": ("开机",)})
    assert boot.find("开机时开") == ["boot", "on"]


@pytest.mark.parametrize(
    ("text", "concepts"),
    [
        ("all screens", ["screen"]),
        ("boxes and a box", ["box", "box"]),
        ("screensaver", []),
        ("touchscreen", []),
        ("屏幕screen2", ["display"]),
        ("打开screen吧", ["screen"]),
        ("a touch screen", ["touch"]),
        ("screenses", []),
    ],
)
def test_english_is_found_as_whole_words_and_their_plurals(text: str, concepts: list[str]) -> None:
    terms = {"screen": ("screen",), "box": ("box",), "touch": ("touch screen",), "display": ("屏幕",)}
    assert TermMatcher(terms).find(text) == concepts
