"""Utterance to command: right without any help from a model, and valid whatever a model says."""

import asyncio
import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kylin_gguf.actuator import reader
from kylin_gguf.actuator.catalogue import CommandCatalogue
from kylin_gguf.actuator.interpret import MAX_UTTERANCE, Interpreter
from kylin_gguf.errors import InvalidValue

# Written for this table alone: none is in the catalogue.
COMMANDS = [
    ("把音量调到百分之四十", "volume.set", {"level": 40}),
    ("音量调成八十", "volume.set", {"level": 80}),
    ("麻烦把声音设到35%", "volume.set", {"level": 35}),
    ("please set volume to ninety percent", "volume.set", {"level": 90}),
    ("把 volume 调到 25", "volume.set", {"level": 25}),
    ("声音大一点好吗", "volume.set", {"level": "+"}),
    ("turn the sound down a little", "volume.set", {"level": "-"}),
    ("现在的音量是多少", "volume.get", {}),
    ("请静音", "volume.mute", {}),
    ("please mute the computer now", "volume.mute", {}),
    ("帮我取消静音", "volume.unmute", {}),
    ("屏幕亮度调到七十", "brightness.set", {"level": 70}),
    ("set screen brightness to 15", "brightness.set", {"level": 15}),
    ("屏幕太亮了调暗一点", "brightness.set", {"level": "-"}),
    ("亮度现在是多少", "brightness.get", {}),
    ("打开一下蓝牙", "bluetooth.set", {"state": "on"}),
    ("please disable bluetooth", "bluetooth.set", {"state": "off"}),
    ("把护眼模式打开", "eye-care.set", {"state": "on"}),
    ("turn off the night light", "eye-care.set", {"state": "off"}),
    ("连接wifi", "network.wifi", {}),
    ("切换成省电模式", "power.mode", {"mode": "saving"}),
    ("switch to performance mode", "power.mode", {"mode": "performance"}),
    ("换成深色主题", "window.style", {"style": "dark"}),
    ("use the light theme for windows", "window.style", {"style": "light"}),
    ("把任务栏放到屏幕左边", "panel.position", {"position": "left"}),
    ("move the panel to the top of the screen", "panel.position", {"position": "top"}),
    ("任务栏请自动隐藏起来", "panel.auto-hide", {"state": "on"}),
    ("放下一首歌", "music.control", {"action": "next"}),
    ("pause the song", "music.control", {"action": "pause"}),
    ("歌曲请随机播放", "music.control", {"action": "shuffle"}),
    ("打开音乐播放器吧", "music.open", {}),
    ("系统字体大小设为14", "font.size.set", {"size": 14}),
    ("禁用触控板吧", "touchpad.set", {"state": "off"}),
    ("鼠标滚轮速度设成7", "mouse.wheel-speed.set", {"speed": 7}),
    ("检查一下系统更新", "update.open", {}),
    ("打开打印机的设置", "printer.open", {}),
    ("open the software store", "app-store.open", {}),
    ("set an alarm for eight o'clock", "alarm.open", {}),
    ("屏幕缩放调到百分之一百五十", "display.scale.set", {"percent": 150}),
    ("change the display resolution", "display.resolution", {}),
]
NOTHING = [
    "你今天过得好吗",
    "给我讲讲唐朝的历史",
    "why do cats purr",
    "空调温度调到二十四度",
    "turn off the kitchen lights",
    "打开微信给小李发消息",
    "how do I change the font in excel",
    "蓝牙耳机哪个牌子音质好",
    "三十乘以五等于多少",
    "volume of a cube with side three",
    "不用管音量",
    "what is your favourite colour",
    "asdfgh qwerty",
    "！！！",
]


@pytest.mark.parametrize(("utterance", "command", "arguments"), COMMANDS)
async def test_commands(
    interpreter: Interpreter,
    shipped: CommandCatalogue,
    utterance: str,
    command: str,
    arguments: dict[str, Any],
) -> None:
    assert utterance not in {e.text for e in shipped.examples()}
    found = await interpreter.interpret(utterance)
    assert (found.command, dict(found.arguments)) == (command, arguments), found


@pytest.mark.parametrize("utterance", NOTHING)
async def test_nothing_to_do(interpreter: Interpreter, shipped: CommandCatalogue, utterance: str) -> None:
    assert utterance not in {e.text for e in shipped.examples()}
    found = await interpreter.interpret(utterance)
    assert found.command is None, found


async def test_the_json_object(interpreter: Interpreter) -> None:
    found = json.loads(json.dumps((await interpreter.interpret("把音量调到百分之四十")).to_json()))
    assert found["command"] == "volume.set"
    assert found["arguments"] == {"level": 40}
    assert found["kylin"] == {"name": "音量控制", "value": "set"}
    assert found["confirm"] is False
    assert found["confidence"] > 0.5
    assert found["decided_by"] in ("lexical", "model")
    assert set(found["ms"]) == {"shortlist", "model", "total"}
    assert all(set(other) == {"command", "arguments", "confidence"} for other in found["alternatives"])
    nothing = (await interpreter.interpret("你今天过得好吗")).to_json()
    assert (nothing["command"], nothing["arguments"], nothing["kylin"]) == (None, {}, None)


async def test_risky_commands_ask_first(interpreter: Interpreter) -> None:
    assert (await interpreter.interpret("禁用触控板吧")).confirm


@pytest.mark.parametrize("utterance", ["", "   ", "\u200b", "长" * (MAX_UTTERANCE + 1)])
async def test_empty_and_overlong_utterances_are_errors(interpreter: Interpreter, utterance: str) -> None:
    with pytest.raises(InvalidValue):
        await interpreter.interpret(utterance)


# Fragments of real requests, so that chance reaches the whole catalogue and not only "no command".
WORDS = (
    "把 音量 亮度 蓝牙 调到 百分之四十 200% 打开 关闭 大一点 太暗了 一半 最大 任务栏 左边 触控板 字体 鼠标 "
    "速度 下一首 护眼 volume brightness bluetooth set to 40 101 -5 louder off on max half taskbar left dark "
    "font mouse"
)
FRAGMENT = st.sampled_from(WORDS.split())
UTTERANCE = st.one_of(st.text(max_size=60), st.lists(FRAGMENT, min_size=1, max_size=6).map(" ".join))


@settings(max_examples=300, deadline=None)
@given(UTTERANCE)
def test_any_utterance_gives_a_valid_command_or_none(
    interpreter: Interpreter, shipped: CommandCatalogue, utterance: str
) -> None:
    try:
        found = asyncio.run(interpreter.interpret(utterance))
    except InvalidValue as error:
        assert error.name == "utterance"
        return
    choices = [(choice.command, choice.arguments) for choice in found.alternatives]
    if found.command is not None:
        choices.append((found.command, found.arguments))
    for command, arguments in choices:
        assert shipped.validate(command, arguments) == dict(arguments)
    assert math.isfinite(found.confidence)


async def test_commands_registered_later_work_at_once(
    shipped: CommandCatalogue, interpreter: Interpreter
) -> None:
    extra = reader.parse(
        """
version: 1
commands:
  wallet.open:
    description: {zh: 打开钱包, en: Open the wallet}
    examples: {zh: [打开钱包, 看看我的钱包], en: [open my wallet, show the wallet]}
""",
        "wallet",
    )
    before = await interpreter.interpret("打开我的钱包")
    after = await Interpreter(shipped.merge(extra)).interpret("打开我的钱包")
    assert before.command is None
    assert after.command == "wallet.open"


async def test_a_catalogue_without_negatives_still_refuses_the_unknown(shipped: CommandCatalogue) -> None:
    bare = Interpreter(replace(shipped, commands=shipped.commands[:3], negatives=()))
    assert (await bare.interpret("zzz yyy xxx")).command is None
