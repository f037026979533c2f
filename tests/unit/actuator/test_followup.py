"""What a few bare words mean after a command, and that words which name something mean nothing here."""

from __future__ import annotations

import pytest

from kylin_gguf.actuator.catalogue import CommandCatalogue
from kylin_gguf.actuator.followup import following
from kylin_gguf.actuator.wording import normalise

UP, DOWN = {"level": "+"}, {"level": "-"}


@pytest.mark.parametrize(
    ("last", "said", "meant"),
    [
        ({"level": 40}, "再大一点", UP),
        ({"level": 40}, "再小一点吧", DOWN),
        ({"level": 40}, "还是太大了", DOWN),
        ({"level": 40}, "有点小", UP),
        ({"level": 40}, "再调高一些", UP),
        ({"level": 40}, "往下调一点", DOWN),
        ({"level": "-"}, "再来一点", DOWN),
        ({"level": "-"}, "还不够", DOWN),
        ({"level": "+"}, "继续", UP),
        ({"level": 40}, "50", {"level": 50}),
        ({"level": 40}, "改成百分之六十", {"level": 60}),
        ({"level": 40}, "那就调到三十吧", {"level": 30}),
        ({"level": 40}, "最大", {"level": 100}),
        ({"level": 40}, "a bit more", UP),
        ({"level": "-"}, "a bit more please", DOWN),
        ({"level": 40}, "turn it down a little", DOWN),
        ({"level": 40}, "Higher!", UP),
        ({"level": 40}, "still too high", DOWN),
        ({"level": "-"}, "not enough", DOWN),
        ({"level": 40}, "make it 70 percent", {"level": 70}),
        ({"level": 40}, "a little less", DOWN),
    ],
)
def test_after_the_volume(
    shipped: CommandCatalogue, last: dict[str, int | str], said: str, meant: object
) -> None:
    assert following(normalise(said), shipped, "volume.set", last) == ("volume.set", meant)


@pytest.mark.parametrize(
    "said",
    [
        "再亮一点",
        "屏幕大一点",
        "声音大一点",
        "讲个笑话",
        "好的",
        "谢谢",
        "打开",
        "500",
        "今天50度",
        "thanks",
        "brighter",
        "make the text bigger",
        "that's enough",
        "what time is it",
        "tell me more about it",
        "on",
        "",
        "大象",
        "不大好",
        "再见",
    ],
)
def test_other_words_are_no_follow_up(shipped: CommandCatalogue, said: str) -> None:
    assert following(normalise(said), shipped, "volume.set", {"level": 40}) is None


@pytest.mark.parametrize(
    ("said", "state"),
    [("关掉吧", "off"), ("再打开", "on"), ("turn it off again", "off"), ("switch it back on", "on")],
)
def test_after_a_switch(shipped: CommandCatalogue, said: str, state: str) -> None:
    found = following(normalise(said), shipped, "bluetooth.set", {"state": "on"})
    assert found == ("bluetooth.set", {"state": state})


@pytest.mark.parametrize("last", ["volume.get", "volume.mute"])
def test_after_a_question_its_setting_is_meant(shipped: CommandCatalogue, last: str) -> None:
    assert following("大一点", shipped, last, {}) == ("volume.set", UP)


def test_a_page_takes_no_follow_up(shipped: CommandCatalogue) -> None:
    assert following("再大一点", shipped, "printer.open", {}) is None
