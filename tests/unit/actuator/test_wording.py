"""The normal form of utterances: one for both scripts, and stable."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kylin_gguf.actuator.traditional import simplified
from kylin_gguf.actuator.wording import normalise, spoken

TRADITIONAL = "滑鼠螢幕網路軟體介面預設程式設計師麼著後裡檔案夾為與記憶體麽么幺薴乾囧"


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("把螢幕亮度調高", "把屏幕亮度调高"),
        ("滑鼠靈敏度", "鼠标灵敏度"),
        ("打開藍牙", "打开蓝牙"),
        ("關閉無線網路", "关闭无线网络"),
        ("工作列自動隱藏", "任务栏自动隐藏"),
        ("安裝軟體", "安装软件"),
        ("開 啟 飛 航 模 式", "打开飞行模式"),
        ("還原預設介面", "还原默认界面"),
        ("為什麼這麼暗", "为什么这么暗"),
        ("怎么調", "怎么调"),
        ("插入隨身碟", "插入u盘"),
        ("關閉程序", "关闭进程"),
        ("关闭程序", "关闭程序"),
        ("显著", "显著"),
        ("程式", "程式"),
        ("囧", "囧"),
    ],
)
def test_traditional_characters_become_simplified(text: str, normal: str) -> None:
    assert normalise(text) == normal


def test_what_was_said_keeps_its_characters() -> None:
    assert spoken("搜尋 Taipei 臺灣") == "搜尋 Taipei 臺灣"
    assert spoken("插入隨身碟 A") == normalise("插入隨身碟 A")


@given(st.text(max_size=60) | st.text(TRADITIONAL + "程序界面 a"))
def test_normal_form_is_stable(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)
    assert len(spoken(text)) == len(normalise(text))


@given(st.text(st.characters(max_codepoint=0x33FF)))
def test_other_scripts_are_left_alone(text: str) -> None:
    assert simplified(text) == text


def test_the_tables_are_not_read_for_simplified_text() -> None:
    script = (
        "import sys\n"
        "from kylin_gguf.actuator.wording import normalise\n"
        "normalise('把音量调到百分之三十')\n"
        "assert 'opencc' not in sys.modules\n"
        "normalise('把音量調到三十')\n"
        "assert 'opencc' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
