"""What was misheard of a catalogue's terms, and what only sounds like it."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kylin_gguf.actuator.catalogue import Command, CommandCatalogue, Example
from kylin_gguf.actuator.features import TermMatcher, extract
from kylin_gguf.actuator.inverted_index import InvertedIndex
from kylin_gguf.actuator.repair import Repair
from kylin_gguf.actuator.shortlist import Meaning, Shortlist

THINGS = {
    "bluetooth": ("蓝牙", "bluetooth"),
    "volume": ("音量", "volume"),
    "wifi": ("无线局域网", "wireless"),
    "panel": ("任务栏", "taskbar"),
    "tap": ("轻点", "tapping"),
    "vpn": ("专用网", "vpn"),
    "theme": ("主题", "theme"),
    "mouse": ("鼠标", "mouse"),
}
TERMS = {
    **THINGS,
    "start": ("启用", "打开", "enable"),
    "automatic": ("自动",),
    "television": ("电视", "television"),
}
EXAMPLES = [
    Example(text, thing)
    for thing, (zh, en) in THINGS.items()
    for i in range(1 if thing == "tap" else 10)
    for text in (f"启用{zh}{i}", f"打开{zh}", f"自动{zh}", f"{zh}自己动", f"enable the {en} please {i}")
] + [Example(f"{text}{i}", None) for i in range(40) for text in ("电视无限好看", "turn on the television ")]


def build() -> Repair:
    matcher = TermMatcher(TERMS)
    index = InvertedIndex.of([extract(example.text, matcher) for example in EXAMPLES])
    return Repair(TERMS, matcher, index, [example.command for example in EXAMPLES])


@pytest.fixture(scope="module")
def repair() -> Repair:
    return build()


@pytest.mark.parametrize(
    ("heard", "meant"),
    [
        ("关闭蓝鸭", "关闭蓝牙"),
        ("把音亮调大", "把音量调大"),
        ("音凉和蓝压", "音量和蓝牙"),
        ("连接无限局域网", "连接无线局域网"),
        ("藏起人务栏", "藏起任务栏"),
        ("鼠镖太慢", "鼠标太慢"),
        ("switch blutooth off", "switch bluetooth off"),
        ("the taksbar", "the taskbar"),
    ],
)
def test_a_term_is_put_right(repair: Repair, heard: str, meant: str) -> None:
    assert repair(heard) == meant


@pytest.mark.parametrize(
    "text",
    [
        "蓝牙",
        # As it sounds, but nothing of it is left, or it is too rare a term for that.
        "银两",
        "喜庆点",
        # Part of a word that is known.
        "自动物题",
        "无限好看",
        # These do not tell commands apart, or are of none.
        "己用",
        "搭开",
        "电是",
        "televison",
        "enalbe",
        # Nothing to compare with.
        "",
        "12345",
        "今天天气怎么样",
        "what a lovely day",
    ],
)
def test_anything_else_stays(repair: Repair, text: str) -> None:
    assert repair(text) == text


@given(
    st.text(max_size=60) | st.text("蓝牙压鸭音量亮凉无线限局域网任务栏篮鼠标镖自动打开 aeblotuh", max_size=40)
)
def test_lengths_stay_and_repairing_again_changes_nothing(repair: Repair, text: str) -> None:
    repaired = repair(text)
    assert repair(repaired) == repaired
    assert len(repaired) <= len(text) + len(text.split())


def test_examples_are_left_as_they_are(repair: Repair) -> None:
    assert [repair(example.text) for example in EXAMPLES] == [example.text for example in EXAMPLES]


def test_an_utterance_is_compared_as_repaired() -> None:
    commands = tuple(
        Command(thing, {}, (), tuple(e for e in EXAMPLES if e.command == thing)) for thing in THINGS
    )
    shortlist = Shortlist(CommandCatalogue("test", commands, (), TERMS))
    heard, meant = shortlist.match("蓝鸭"), shortlist.match("蓝牙")
    assert heard == meant
    assert max(heard, key=heard.__getitem__) == Meaning("bluetooth")


def test_readings_are_loaded_before_the_first_utterance_and_without_phrases() -> None:
    script = (
        "import sys\n"
        "from tests.unit.actuator.test_repair import build\n"
        "repair = build()\n"
        "assert 'pypinyin' in sys.modules and 'pypinyin.phrases_dict' not in sys.modules\n"
        "known = set(sys.modules)\n"
        "repair('打开蓝鸭, blutooth')\n"
        "assert set(sys.modules) == known\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
