"""The value of a numeral, once it is known to be one."""

from __future__ import annotations

import re

ZH_DIGITS = dict(zip("零〇一二两俩三四五六七八九", (0, 0, 1, 2, 2, 2, 3, 4, 5, 6, 7, 8, 9), strict=True))
_ZH_UNITS = {"十": 10, "百": 100, "千": 1000}

_EN_UNDER_TWENTY = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
)
_EN_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
EN_VALUES = {word: value for value, word in enumerate(_EN_UNDER_TWENTY.split())}
EN_VALUES |= {word: 10 * tens for tens, word in enumerate(_EN_TENS.split(), start=2)}
_EN_UNITS = {"hundred": 100, "thousand": 1000}
EN_PARTS = {"half": 2, "third": 3, "thirds": 3, "quarter": 4, "quarters": 4, "fifth": 5, "fifths": 5}

# For patterns: one digit, a numeral.
ZH_DIGIT = "[零〇一二两三四五六七八九]"
ZH_NUMBER = "[零〇一二两三四五六七八九十百千]+"
EN_DIGIT = "|".join(word for word, value in EN_VALUES.items() if value < 10)  # noqa: PLR2004
_EN_WORD = "|".join(sorted((*EN_VALUES, *_EN_UNITS), key=len, reverse=True))
EN_NUMBER = rf"(?:{_EN_WORD})(?:(?:[ -]| and )(?:{_EN_WORD}))*"

_ONE_DIGIT = re.compile(r"[a-z]+|[^ ]")


def chinese(text: str) -> int:
    """Return the value of a Chinese numeral, by position (``六五``) or units (``一百七十五``, ``一百二``)."""
    if not any(c in _ZH_UNITS for c in text):
        return int("".join(str(ZH_DIGITS[c]) for c in text))
    total, digit, last_unit = 0, None, 1
    for c in text:
        if c in ZH_DIGITS:
            digit = ZH_DIGITS[c]
            last_unit = 1 if digit == 0 else last_unit
        else:
            total += (1 if digit is None else digit) * _ZH_UNITS[c]
            digit, last_unit = None, _ZH_UNITS[c]
    # "一百二" is 120: a closing digit right after a unit counts the next smaller unit.
    return total + (digit or 0) * (last_unit // 10 if last_unit > 10 else 1)  # noqa: PLR2004


def english(text: str) -> int:
    """Return the value of English number words, such as ``two hundred and five``."""
    total = current = 0
    for word in re.findall(r"[a-z]+", text):
        if word in _EN_UNITS:
            current = max(current, 1) * _EN_UNITS[word]
            total, current = (total + current, 0) if word == "thousand" else (total, current)
        else:
            current += EN_VALUES.get(word, 0)
    return total + current


def whole(text: str) -> int:
    """Return the value of Arabic digits or of a Chinese numeral."""
    return int(text) if text.isascii() else chinese(text)


def decimal(before: int, digits: str) -> float:
    """Return ``before`` with ``digits``, Chinese or Arabic ones or English words, behind the point."""
    read = [EN_VALUES[d] if d in EN_VALUES else ZH_DIGITS.get(d, d) for d in _ONE_DIGIT.findall(digits)]
    return float(f"{before}.{''.join(map(str, read))}")


def share(part: int, of: int) -> int | None:
    """Return ``part`` of ``of`` in rounded percent; None for more than the whole."""
    return round(100 * part / of) if 0 < part <= of else None
