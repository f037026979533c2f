"""Where the numbers of an utterance stand, and which of its numerals are none that anybody wants set."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from kylin_gguf.actuator.quantities.numerals import (
    EN_DIGIT,
    EN_NUMBER,
    EN_PARTS,
    EN_VALUES,
    ZH_DIGIT,
    ZH_NUMBER,
    chinese,
    decimal,
    english,
    share,
    whole,
)

Unit = Literal["", "s", "x"]
"""What a number counts: seconds, times as much, or whatever the argument does."""


@dataclass(frozen=True)
class Number:
    """A number at ``text[start:end]``; ``delta`` when it says by how much rather than to what."""

    value: int | float
    start: int
    end: int
    delta: bool
    unit: Unit = ""


# A letter, where a word goes on. Not \b: to a regular expression Han characters are letters, too.
_ON = "(?![a-z])"
_ANY = rf"(?:\d+(?:\.\d+)?|{ZH_NUMBER})"

# Numerals that are no values of a setting. In this order: a longer thing hides the shorter ones in it.
_OTHER = tuple(
    re.compile(pattern)
    for pattern in (
        # Sums, dates and sizes: 365*24, 三十乘以五, 2024-05-01, 1920x1080.
        rf"{_ANY}(?: ?(?:[-*×÷/^+x]|[加减乘除]以?|plus|minus|times|divided by) ?{_ANY})+",
        r"(?<=[打拨] )\d{3,}|(?<=[打拨])\d{3,}|(?<=call )\d{3,}|(?<=dial )\d{3,}",
        # Chinese service lines.
        r"(?<!\d)(?:100(?:00|01|10|86)|123(?:06|15|45)|95\d{3})(?!\d)",
        # Angles and temperatures, and what is part of a name: 1080p, 4k, 144hz, 3rd.
        rf"{_ANY} ?(?:度(?!数)|°|摄氏)|\d+ ?degrees?{_ON}|(?:{EN_NUMBER}) degrees?{_ON}",
        rf"\d+ ?(?:[ip]|k|g|m|t|[gkm]?hz|bits?|th|st|nd|rd){_ON}",
        # The time of day, and places in a row.
        rf"{ZH_NUMBER}点(?:半|钟|整|[一三]刻|{ZH_NUMBER}分)|\d{{1,2}}点(?!\d)|第 ?\d+",
        # Half of other things than a setting.
        r"(?<![a-z])half(?:-(?!volume|brightness|way up)[a-z]+| (?:deaf|blind|asleep|awake|dead|empty|full"
        r"|naked|baked|price|time|way through|past|done|finished|an?(?! second)|of (?:us|them|my|the people)"
        rf"|the (?:time|people)){_ON})",
        r"[跑讲说做看走写听吃读聊学唱玩](?:[到了着完])?一半|另一半|一半的?[人路时钱]",
    )
)


def _zh_tenths(m: re.Match[str]) -> int:
    return 10 * whole(m["of"]) + (5 if m["half"] else 0)


# In order: an earlier rule's span hides it from the later ones. A single Chinese digit is a number only
# where something says so ("调成三", "三档"), since 一 is in 一点, 一下, 一首, 第一 and many more.
_RULES: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], int | float | None]], ...] = tuple(
    (re.compile(pattern), read)
    for pattern, read in (
        (
            rf"(?<![\d.a-z:])(?P<of>\d{{1,6}})\.(?P<digits>\d{{1,6}})(?![.:]?\d)"
            rf"(?! ?(?:k|g|m|t|[gkm]?hz){_ON})",
            lambda m: decimal(int(m["of"]), m["digits"]),
        ),
        (
            rf"(?<![第早晚午大小高低亮暗快慢响轻粗细])(?:百分之)?(?P<of>{ZH_NUMBER})点(?P<digits>{ZH_DIGIT}{{1,6}})"
            r"(?![十百千分点刻下些])",
            lambda m: decimal(chinese(m["of"]), m["digits"]),
        ),
        (
            rf"(?<![a-z])(?P<of>{EN_NUMBER}) point(?P<digits>(?: (?:{EN_DIGIT}))+){_ON}",
            lambda m: decimal(english(m["of"]), m["digits"]),
        ),
        (rf"(?P<of>{ZH_NUMBER}|\d{{1,6}})(?=(?:倍|秒钟?)半)", lambda m: whole(m["of"]) + 0.5),
        (r"半(?=秒)|(?<![a-z])half (?:of )?a(?= second(?!s| [a-z]))", lambda _: 0.5),
        (rf"(?<![a-z])(?P<of>{EN_NUMBER}) and a half{_ON}", lambda m: english(m["of"]) + 0.5),
        (r"百分百|百分之百", lambda _: 100),
        (rf"百分之(?P<of>{ZH_NUMBER})", lambda m: chinese(m["of"])),
        (r"百分之(?P<of>\d+)", lambda m: int(m["of"])),
        (
            rf"(?P<whole>{ZH_DIGIT}|十)分之(?P<part>{ZH_DIGIT})",
            lambda m: share(chinese(m["part"]), chinese(m["whole"])),
        ),
        (rf"(?P<of>{ZH_DIGIT}|[1-9])成(?P<half>半)?(?![为了功])", _zh_tenths),
        (r"一半|对半|中间值|(?<=减)半", lambda _: 50),
        (r"(?<![\d.a-z:])(?P<of>\d{1,6})(?![.:]?\d)", lambda m: int(m["of"])),
        (
            rf"(?<!第)(?P<of>{ZH_DIGIT}?[十百千]{ZH_NUMBER}|{ZH_DIGIT}[十百千]|十)(?![分足])",
            lambda m: chinese(m["of"]),
        ),
        (rf"(?<![第一])(?P<of>{ZH_DIGIT}{{2,4}})(?![点下些])", lambda m: chinese(m["of"])),
        (
            rf"(?:(?<=[到至成为填])|(?<=设[定置]))(?P<of>{ZH_DIGIT})(?![点些下样直起边会定般首个种款张条次])",
            lambda m: chinese(m["of"]),
        ),
        (rf"(?<!第)(?P<of>{ZH_DIGIT})(?=档|级|号字|磅|毫秒|倍)", lambda m: chinese(m["of"])),
        (
            r"(?<![a-z])(?:(?P<part>a|one|two|three) )?"
            rf"(?P<whole>{'|'.join(EN_PARTS)}){_ON}(?! hours?{_ON})",
            lambda m: share(EN_VALUES.get(m["part"] or "one", 1), EN_PARTS[m["whole"]]),
        ),
        (rf"(?<![a-z])(?:twice|two times){_ON}(?= (?:the|as|its|normal|original) )", lambda _: 2),
        (rf"(?<![a-z])(?P<of>(?:a )?{EN_NUMBER}){_ON}", lambda m: english(m["of"])),
    )
)
# "one" to "nine" are mostly pronouns and counts; alone they are values only where a value is due.
_VALUE_DUE = re.compile(r"(?:\b(?:to|at|on|is|be|level|value|set)|=|[到至成为填设]) ?$")
_PERCENT_NEXT = re.compile(r" ?(?:%|percent\b|per cent\b)")
_UNITS: tuple[tuple[Unit, re.Pattern[str]], ...] = (
    ("s", re.compile(rf" ?(?:秒|s{_ON}|sec(?:ond)?s?{_ON})")),
    ("x", re.compile(rf" ?(?:倍|x{_ON}|times (?:as|the|its|normal|original){_ON})")),
)
_DELTA_BEFORE = re.compile(
    r"(?:\bby|(?<!大)[大高亮快小低暗慢轻强弱长短]|增加|减少|降低|提高|提升|减小|增大|加大|升高|[减加降升提增][了上去掉个]?"
    r"|(?<![\d)])[-+]|\b(?:up|down|higher|lower|louder|brighter|increase|decrease)(?: it)?) ?$"
)


def numbers(text: str) -> tuple[Number, ...]:
    """Return the numbers of normalised ``text``, in order of mention."""
    taken = [False] * len(text)
    for pattern in _OTHER:
        for match in pattern.finditer(text):
            _take(taken, match)
    found = []
    for pattern, read in _RULES:
        for match in pattern.finditer(text):
            if any(taken[match.start() : match.end()]):
                continue
            value = read(match)
            if value is not None and _is_value(text, match):
                _take(taken, match)
                found.append(_number(text, match, value))
    return tuple(sorted(found, key=lambda n: n.start))


def _take(taken: list[bool], match: re.Match[str]) -> None:
    taken[match.start() : match.end()] = [True] * (match.end() - match.start())


def _is_value(text: str, match: re.Match[str]) -> bool:
    bare_english = EN_VALUES.get(match[0], 10) < 10  # noqa: PLR2004
    return (
        not bare_english
        or _PERCENT_NEXT.match(text, match.end()) is not None
        or _unit(text, match) != ""
        or _VALUE_DUE.search(text, 0, match.start()) is not None
    )


def _unit(text: str, match: re.Match[str]) -> Unit:
    if match[0] in ("twice", "two times"):
        return "x"
    return next((unit for unit, pattern in _UNITS if pattern.match(text, match.end())), "")


def _number(text: str, match: re.Match[str], value: int | float) -> Number:
    percent = _PERCENT_NEXT.match(text, match.end())
    delta = _DELTA_BEFORE.search(text, 0, match.start()) is not None
    end = percent.end() if percent else match.end()
    return Number(value, match.start(), end, delta, _unit(text, match))
