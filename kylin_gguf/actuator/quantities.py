"""Numbers and directions in an utterance, in Chinese and English.

What an integer argument may become is decided here and nowhere else: a value that is not read out of
the utterance is never offered to the model. All functions take text in the form of ``wording.normalise``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

Direction = Literal["+", "-"]
Extreme = Literal["min", "max"]
_N = TypeVar("_N", int, float)

_ZH_DIGITS = dict(zip("零〇一二两俩三四五六七八九", (0, 0, 1, 2, 2, 2, 3, 4, 5, 6, 7, 8, 9), strict=True))
_ZH_UNITS = {"十": 10, "百": 100, "千": 1000}
_DIGIT = "[零〇一二两三四五六七八九]"
_NUMBER = "[零〇一二两三四五六七八九十百千]+"

_EN_UNDER_TWENTY = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
)
_EN_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_EN_VALUES = {word: value for value, word in enumerate(_EN_UNDER_TWENTY.split())}
_EN_VALUES |= {word: 10 * tens for tens, word in enumerate(_EN_TENS.split(), start=2)}
_EN_UNITS = {"hundred": 100, "thousand": 1000}
_EN_WORDS = "|".join(sorted((*_EN_VALUES, *_EN_UNITS), key=len, reverse=True))
_EN_DIGITS = "|".join(word for word, value in _EN_VALUES.items() if value < 10)  # noqa: PLR2004
_ONE_DIGIT = re.compile(r"[a-z]+|[^ ]")
_EN_PARTS = {"half": 2, "third": 3, "thirds": 3, "quarter": 4, "quarters": 4, "fifth": 5, "fifths": 5}


def _chinese(text: str) -> int | None:
    """Value of a Chinese numeral, positional (``六五``) or with units (``一百七十五``, ``一百二``)."""
    if not any(c in _ZH_UNITS for c in text):
        return int("".join(str(_ZH_DIGITS[c]) for c in text))
    total, digit, last_unit = 0, None, 1
    for c in text:
        if c in _ZH_DIGITS:
            digit = _ZH_DIGITS[c]
            last_unit = 1 if digit == 0 else last_unit
        else:
            total += (1 if digit is None else digit) * _ZH_UNITS[c]
            digit, last_unit = None, _ZH_UNITS[c]
    # "一百二" is 120: a closing digit right after a unit counts the next smaller unit.
    return total + (digit or 0) * (last_unit // 10 if last_unit > 10 else 1)  # noqa: PLR2004


def _english(text: str) -> int | None:
    total = current = 0
    words = re.findall(r"[a-z]+", text)
    for word in words:
        if word in _EN_UNITS:
            current = max(current, 1) * _EN_UNITS[word]
            total, current = (total + current, 0) if word == "thousand" else (total, current)
        else:
            current += _EN_VALUES.get(word, 0)
    return total + current


def _decimal(whole: int | None, digits: str) -> float | None:
    """``whole`` with ``digits``, Chinese or Arabic ones or English words, behind the point."""
    if whole is None:
        return None
    read = [_EN_VALUES[w] if w in _EN_VALUES else _ZH_DIGITS.get(w, w) for w in _ONE_DIGIT.findall(digits)]
    return float(f"{whole}.{''.join(map(str, read))}")


def _share(part: int, whole: int) -> int | None:
    """``part`` of ``whole`` in rounded percent; nothing for more than the whole."""
    return round(100 * part / whole) if 0 < part <= whole else None


def _zh_tenths(m: re.Match[str]) -> int | None:
    tenths = _chinese(m["of"]) if m["of"] in _ZH_DIGITS else int(m["of"])
    return None if tenths is None else 10 * tenths + (5 if m["half"] else 0)


def _zh_fraction(m: re.Match[str]) -> int | None:
    part, whole = _chinese(m["part"]), _chinese(m["whole"])
    return None if part is None or whole is None else _share(part, whole)


def _en_fraction(m: re.Match[str]) -> int | None:
    part = _EN_VALUES.get(m["part"] or "one", 1)
    return _share(part, _EN_PARTS[m["whole"]])


# In order: an earlier rule's span hides it from the later ones. A single Chinese digit is a number only
# where something says so ("调成三", "三档"), since 一 is in 一点, 一下, 一首, 第一 and many more.
_RULES: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], int | float | None]], ...] = tuple(
    (re.compile(pattern), read)
    for pattern, read in (
        (
            r"(?<![\d.a-z:])(?P<of>\d{1,6})\.(?P<digits>\d{1,6})(?![.:]?\d)(?! ?(?:k|g|m|t|[gkm]?hz)\b)",
            lambda m: _decimal(int(m["of"]), m["digits"]),
        ),
        (
            rf"(?<![第早晚午大小高低亮暗快慢响轻粗细])(?:百分之)?(?P<of>{_NUMBER})点(?P<digits>{_DIGIT}{{1,6}})"
            r"(?![十百千分点刻下些])",
            lambda m: _decimal(_chinese(m["of"]), m["digits"]),
        ),
        (
            rf"(?<![a-z])(?P<of>(?:{_EN_WORDS})(?:[ -](?:{_EN_WORDS}))*) point"
            rf"(?P<digits>(?: (?:{_EN_DIGITS}))+)(?![a-z])",
            lambda m: _decimal(_english(m["of"]), m["digits"]),
        ),
        (r"百分百|百分之百", lambda m: 100),
        (rf"百分之(?P<of>{_NUMBER})", lambda m: _chinese(m["of"])),
        (r"百分之(?P<of>\d+)", lambda m: int(m["of"])),
        (rf"(?P<whole>{_DIGIT}|十)分之(?P<part>{_DIGIT})", _zh_fraction),
        (rf"(?P<of>{_DIGIT}|[1-9])成(?P<half>半)?(?![为了功])", _zh_tenths),
        (r"一半|对半|中间值", lambda m: 50),
        (
            r"(?<![\d.a-z:])(?P<of>\d{1,6})(?![.:]?\d)(?!\s?(?:k|g|m|t|[gkm]?hz|bits?|th|st|nd|rd)\b)",
            lambda m: int(m["of"]),
        ),
        (
            rf"(?<!第)(?P<of>{_DIGIT}?[十百千]{_NUMBER}|{_DIGIT}[十百千]|十)(?![分足])",
            lambda m: _chinese(m["of"]),
        ),
        (rf"(?<![第一])(?P<of>{_DIGIT}{{2,4}})(?![点下些])", lambda m: _chinese(m["of"])),
        (
            rf"(?:(?<=[到至成为填])|(?<=设[定置]))(?P<of>{_DIGIT})(?![点些下样直起边会定般首个种款张条次])",
            lambda m: _chinese(m["of"]),
        ),
        (rf"(?<!第)(?P<of>{_DIGIT})(?=档|级|号字|磅|毫秒|倍)", lambda m: _chinese(m["of"])),
        (
            r"(?<![a-z])(?:(?P<part>a|one|two|three) )?"
            rf"(?P<whole>{'|'.join(_EN_PARTS)})(?![a-z])(?! an? | hours?\b| past\b)",
            _en_fraction,
        ),
        (
            rf"(?<![a-z])(?P<of>(?:a )?(?:{_EN_WORDS})(?:(?:[ -]| and )(?:{_EN_WORDS}))*)(?![a-z])",
            lambda m: _english(m["of"]),
        ),
    )
)
# "one" to "nine" are mostly pronouns and counts; alone they are values only where a value is due.
_VALUE_DUE = re.compile(r"(?:\b(?:to|at|on|is|be|level|value|set)|=|[到至成为填设]) ?$")
_PERCENT_NEXT = re.compile(r" ?(?:%|percent\b|per cent\b)")

_DELTA_BEFORE = re.compile(
    r"(?:\bby|(?<!大)[大高亮快小低暗慢轻]|增加|减少|降低|提高|提升|减小|增大|加大|升高|减|加|降|升"
    r"|\b(?:up|down|higher|lower|louder|brighter|increase|decrease)(?: it)?) ?$"
)

_EXTREMES: tuple[tuple[Extreme, re.Pattern[str]], ...] = (
    (
        "max",
        re.compile(
            r"最[大高亮响]|拉满|调满|开满|顶格|满格|拉到[顶头]|开到[顶头]|调到[顶头]|\bmax(?:imum|ed)?\b|\bfull(?:est)?\b"
            r"|\ball the way up\b|\b(?:loudest|brightest|highest)\b|\bas (?:loud|bright|high) as\b"
        ),
    ),
    (
        "min",
        re.compile(
            r"最[小低暗轻]|拉到底|调到底|降到底|\bmin(?:imum)?\b|\ball the way down\b"
            r"|\b(?:quietest|dimmest|lowest|darkest)\b|\bas (?:low|quiet|dim|dark) as\b"
        ),
    ),
)

_UP = "大高亮快响粗"
_DOWN = "小低暗慢轻细"
_EN_UP = "loud|bright|high|fast|big|large|quick"
_EN_DOWN = "quiet|soft|dim|dark|low|slow|small|faint|tiny"
_ZH_DEGREE = "一点|点|一些|些|一下|一丢丢|一档|一格|几格"
# Complaints ask for the opposite of what they name, so they are read, and hidden, first.
_DIRECTIONS: tuple[tuple[Direction, re.Pattern[str]], ...] = (
    (
        "-",
        re.compile(
            rf"(?:太过?|过于|有点儿?|有些)(?:[{_UP}]|吵|刺眼|晃眼|飘)(?!一?[点些])|[吵刺晃](?:眼|死|得|耳)|太闹"
            rf"|\b(?:too|so|bit|way too|really) (?:{_EN_UP}|glaring)\b"
        ),
    ),
    (
        "+",
        re.compile(
            rf"(?:太过?|过于|有点儿?|有些)(?:[{_DOWN}])(?!一?[点些])|不够[{_UP}]|[{_UP}度量]不够|[听看]不[清见到]"
            rf"|\b(?:too|so|bit|way too|really) (?:{_EN_DOWN})\b|\bnot (?:{_EN_UP}) enough\b"
            r"|\bcan(?:'t|not| not) (?:really |quite |even )?(?:hear|see|read)\b"
        ),
    ),
    (
        "+",
        re.compile(
            rf"[{_UP}](?:{_ZH_DEGREE})|[调加增放变拉推再更往搞弄开升](?:[{_UP}]|上)|提[高升]|增加|增强|加[强速]|升高|大声|高声"
            r"|\b(?:up|louder|brighter|faster|bigger|larger|higher|quicker|increase|raise|boost|crank|enlarge"
            r"|brighten)\b"
        ),
    ),
    (
        "-",
        re.compile(
            rf"[{_DOWN}](?:{_ZH_DEGREE})|[调减降缩变拉放再更往搞弄关](?:[{_DOWN}]|下)|减[少弱慢]|降低|小声|低声"
            r"|\b(?:down|quieter|softer|dimmer|darker|slower|smaller|lower|reduce|decrease|shrink|dim)\b"
        ),
    ),
)


@dataclass(frozen=True)
class Number:
    """A number at ``text[start:end]``; ``delta`` when it says by how much rather than to what."""

    value: int | float
    start: int
    end: int
    delta: bool


@dataclass(frozen=True)
class Quantities:
    """Everything numeric in one utterance."""

    numbers: tuple[Number, ...]
    extremes: frozenset[Extreme]
    directions: frozenset[Direction]

    def values(self, minimum: int, maximum: int) -> tuple[int, ...]:
        """Return the whole numbers in ``[minimum, maximum]`` that an argument may take, as mentioned."""
        whole = [n.value for n in self.numbers if not n.delta and isinstance(n.value, int)]
        return self._within(whole, minimum, maximum)

    def decimals(self, minimum: float, maximum: float) -> tuple[float, ...]:
        """Return the numbers in ``[minimum, maximum]`` that an argument may take, as mentioned."""
        return self._within([float(n.value) for n in self.numbers if not n.delta], minimum, maximum)

    def _within(self, numbers: Sequence[_N], minimum: _N, maximum: _N) -> tuple[_N, ...]:
        found: list[_N] = [number for number in numbers if minimum <= number <= maximum]
        limits: dict[Extreme, _N] = {"min": minimum, "max": maximum}
        found += [limits[extreme] for extreme in sorted(self.extremes)]
        return tuple(dict.fromkeys(found))


def _numbers(text: str) -> tuple[Number, ...]:
    taken = [False] * len(text)
    found = []
    for pattern, read in _RULES:
        for match in pattern.finditer(text):
            start, end = match.span()
            if any(taken[start:end]):
                continue
            value = read(match)
            percent = _PERCENT_NEXT.match(text, end)
            bare_english = match[0] in _EN_VALUES and _EN_VALUES[match[0]] < 10  # noqa: PLR2004
            if value is None or (bare_english and not percent and not _VALUE_DUE.search(text, 0, start)):
                continue
            taken[start:end] = [True] * (end - start)
            delta = _DELTA_BEFORE.search(text, 0, start) is not None
            found.append(Number(value, start, percent.end() if percent else end, delta))
    return tuple(sorted(found, key=lambda n: n.start))


def _directions(text: str) -> frozenset[Direction]:
    found: set[Direction] = set()
    for direction, pattern in _DIRECTIONS:
        if pattern.search(text):
            found.add(direction)
            text = pattern.sub("□", text)
    return frozenset(found)


def read(text: str) -> Quantities:
    """Read every number, extreme ("max") and direction ("louder") out of normalised ``text``."""
    extremes = frozenset(name for name, pattern in _EXTREMES if pattern.search(text))
    return Quantities(_numbers(text), extremes, _directions(text))
