"""Traditional Chinese in simplified characters and in the mainland's words: 螢幕 → 屏幕, 滑鼠 → 鼠标.

The characters and Taiwan's words are OpenCC's tables. They are read when the first traditional character is
met: 5 ms and 2 MB that most users never spend.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opencc import OpenCC

_HAN = re.compile(r"[\u3400-\u9fff]+")

# Where OpenCC has another of several words than a desktop: 接口 is a program's interface, 缺省 is dated.
_DESKTOP = {"介面": "界面", "預設": "默认", "乙太網路": "以太网", "行動熱點": "移动热点"}
_DESKTOP_WORD = re.compile("|".join(_DESKTOP))


@functools.cache
def _tables(conversion: str) -> OpenCC:
    from opencc import OpenCC  # noqa: PLC0415

    return OpenCC(conversion)


def simplified(text: str) -> str:
    """Return ``text`` as it is written in simplified characters; text that is so already is not changed.

    Words are exchanged only in text with a traditional character: 程序 is another thing in Taiwan than on
    the mainland. A word may change its length.
    """
    if not _may_be_traditional(text) or _tables("t2s").convert(text) == text:
        return text
    own = _DESKTOP_WORD.sub(lambda word: _DESKTOP[word[0]], text)
    plain: str = _tables("t2s").convert(_tables("tw2sp").convert(own))
    # To OpenCC 么 is a traditional 幺; where both scripts are mixed it is the simplified 麼.
    return plain.replace("幺", "么")


def _may_be_traditional(text: str) -> bool:
    """Whether a Han character of ``text`` is not in GB 2312, which has the simplified ones in use."""
    try:
        "".join(_HAN.findall(text)).encode("gb2312")
    except UnicodeEncodeError:
        return True
    return False
