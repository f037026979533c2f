"""More or less, most or least: what an utterance says of an amount without a number."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

from kylin_gguf.actuator.quantities.numbers import Number

Direction = Literal["+", "-"]
Extreme = Literal["min", "max"]

_EXTREMES: tuple[tuple[Extreme, re.Pattern[str]], ...] = (
    (
        "max",
        re.compile(
            r"最[大高亮响快长强]|拉满|调满|开满|顶格|满格|拉到[顶头]|开到[顶头]|调到[顶头]|\bmax(?:imum|ed)?\b"
            r"|\bfullest\b|\bfull (?:volume|brightness|blast|sound|whack)\b"
            r"|\b(?:volume|brightness|sound|it|up) full\b"
            r"|\b(?:at|to|on) full\b(?! (?:speed|power|screen)| of\b)|\ball the way up\b"
            r"|\b(?:loudest|brightest|highest|fastest|quickest|longest)\b"
            r"|\bas (?:loud|bright|high|fast|long) as\b"
        ),
    ),
    (
        "min",
        re.compile(
            r"最[小低暗轻慢短弱]|拉到底|调到底|降到底|\bmin(?:imum)?\b|\ball the way down\b"
            r"|\b(?:quietest|dimmest|lowest|darkest|slowest|shortest)\b"
            r"|\bas (?:low|quiet|dim|dark|slow|short) as\b"
        ),
    ),
)
# "Is the volume at maximum" wants to know; "能调到最大吗" wants it done.
_ASKED = re.compile(
    r"^(?:is|are|was|isn't|has|does)\b|是不是|是否|已经[^,。]*[吗没]|(?:是|在)最.[^,。]*吗|了[吗没]"
)

_UP = "大高亮快响粗强"
_DOWN = "小低暗慢轻细弱"
_EN_UP = "loud|bright|high|fast|big|large|quick|strong"
_EN_DOWN = "quiet|soft|dim|dark|low|slow|small|faint|tiny|weak"
_EN_TOO = "too|so|bit|way too|really|this|not as"
_ZH_DEGREE = "一点|点|一些|些|一下|一丢丢|一档|一格|几格"
# Complaints ask for the opposite of what they name, so they are read, and hidden, first. So do wishes for
# less of something and against it: "别这么暗", "don't make it so bright", "less bright".
_ZH_TOO = r"(?:太过?|过于|有点儿?|有些|(?<![有没])[这那]么)"
_DIRECTIONS: tuple[tuple[Direction, re.Pattern[str]], ...] = (
    (
        "-",
        re.compile(
            rf"{_ZH_TOO}(?:[{_UP}]|吵|刺眼|晃眼|飘)(?!一?[点些])|[吵刺晃](?:眼|死|得|耳)|太闹"
            rf"|(?:别|不要|不用|甭)[调开放弄搞]?[{_UP}]声"
            rf"|\b(?:{_EN_TOO}|less) (?:{_EN_UP}|glaring)\b|\bless (?:volume|brightness|light|sound|noise)\b"
        ),
    ),
    (
        "+",
        re.compile(
            rf"{_ZH_TOO}[{_DOWN}](?!一?[点些])|不够[{_UP}]|[{_UP}度量]不够|[听看]不[清见到]"
            rf"|(?:别|不要|不用|甭)[调开放弄搞]?[{_DOWN}]声"
            rf"|\b(?:{_EN_TOO}|less) (?:{_EN_DOWN})\b|\bnot (?:{_EN_UP}) enough\b"
            r"|\bmore (?:volume|brightness|light|sound)\b"
            r"|\bcan(?:'t|not| not) (?:really |quite |even )?(?:hear|see|read)\b"
        ),
    ),
    (
        "+",
        re.compile(
            rf"[{_UP}](?:{_ZH_DEGREE})|[调加增放变拉推再更往搞弄开升](?:[{_UP}]|上)|提[高升]|增加|增强|加[强速倍]|翻倍"
            r"|升高|大声|高声|\bdouble (?:the|its?|my)\b"
            r"|\b(?:up|louder|brighter|faster|bigger|larger|higher|quicker|stronger|increase|raise|boost|crank"
            r"|enlarge|brighten)\b"
        ),
    ),
    (
        "-",
        re.compile(
            rf"[{_DOWN}](?:{_ZH_DEGREE})|[调减降缩变拉放再更往搞弄关](?:[{_DOWN}]|下)|减[少弱慢半]|降低|小声|低声"
            r"|\bhalve\b|\b(?:down|quieter|softer|dimmer|darker|slower|smaller|lower|weaker|reduce|decrease|shrink"
            r"|dim)\b"
        ),
    ),
)
# Before a number that says by how much: "音量加10", "亮度降二十", "-5".
_BY: tuple[tuple[Direction, re.Pattern[str]], ...] = (
    ("+", re.compile(r"(?:[加升提增][了上个]?|\+) ?$")),
    ("-", re.compile(r"(?:[减降][了去掉个]?|-) ?$")),
)


def extremes(text: str) -> frozenset[Extreme]:
    """Return the ends of a range that normalised ``text`` wants: none if it asks whether that is so."""
    if _ASKED.search(text):
        return frozenset()
    return frozenset(name for name, pattern in _EXTREMES if pattern.search(text))


def directions(text: str, numbers: Iterable[Number]) -> frozenset[Direction]:
    """Return which ways normalised ``text`` wants something changed; ``numbers`` are those in it."""
    found = {
        direction
        for number in numbers
        if number.delta
        for direction, pattern in _BY
        if pattern.search(text, 0, number.start)
    }
    for direction, pattern in _DIRECTIONS:
        if pattern.search(text):
            found.add(direction)
            text = pattern.sub("□", text)
    return frozenset(found)
