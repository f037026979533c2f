"""Words with a short word of commands in them that mean something else: 开 in 公开, "off" in "day off".

The list is of the language, not of a catalogue. It has what people say to a desktop, for the words that
switch things or say where they go.
"""

from __future__ import annotations

_OPEN = "开机 开会 开车 开心 开学 开门 开头 开始 开发 开源 开水 开店 开玩笑 开关 公开 离开 分开 展开 避开"
_CLOSE = "关机 关于 关心 关系 关注 关键 关联 机关 海关 相关 有关 无关 过关 难关"
_NOT = "别人 别的 别处 别名 特别 区别 性别 级别 分别 识别 告别 类别"
_EN = (
    "day off, days off, time off, hold off, show off, far off, took off, take off, better off, off topic, "
    "right now, right away, all right, that's right, right here, right there, "
    "left me, left us, left him, left her, i left, have left, is left, time left, nothing left, "
    "start menu, what's on, on time, from now on, come on, go on, going on, and so on"
)
COMPOUNDS = (*_OPEN.split(), *_CLOSE.split(), *_NOT.split(), *_EN.split(", "))
