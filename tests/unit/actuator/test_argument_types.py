"""Arguments that are decimals, entries of a list or words of the user's own."""

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kylin_gguf.actuator import choices, patterns, reader
from kylin_gguf.actuator.candidates import enumerate_candidates
from kylin_gguf.actuator.interpret import Interpreter
from kylin_gguf.actuator.quantities import read
from kylin_gguf.actuator.shortlist import Meaning
from kylin_gguf.actuator.wording import normalise, spoken
from kylin_gguf.errors import InvalidValue
from tests.unit.actuator.catalogues import PLAYER


@pytest.fixture(scope="module")
def player() -> Interpreter:
    return Interpreter(reader.parse(PLAYER, "player"))


@pytest.mark.parametrize(
    ("utterance", "command", "arguments"),
    [
        ("播放速度1.25倍", "play.speed", {"speed": 1.25}),
        ("播放速度一点五倍", "play.speed", {"speed": 1.5}),
        ("set the playback speed to two point five", "play.speed", {"speed": 2.5}),
        ("播放速度三倍", "play.speed", {"speed": 3.0}),
        ("play a bit slower", "play.speed", {"speed": "-"}),
        ("播放速度5.5倍", None, {}),
        ("我想听新闻台", "radio.tune", {"station": "news.radio"}),
        ("please tune in to Jazz 24", "radio.tune", {"station": "jazz-24"}),
        ("listen to jazz24 now", "radio.tune", {"station": "jazz-24"}),
        ("我想听交通台", None, {}),
        ("who owns jazz 24", None, {}),
        ("帮我搜索红烧肉的做法", "web.search", {"query": "红烧肉的做法"}),
        ("Search for The Beatles, please", "web.search", {"query": "The Beatles, please"}),
        ("搜索“爵士台”", "web.search", {"query": "爵士台"}),
        ("look up D-Bus online", "web.search", {"query": "D-Bus"}),
        ("搜索引擎是怎么工作的", None, {}),
        ("搜索", None, {}),
        ("搜索" + "长" * 41, None, {}),
        ("给小李发消息说我晚点到", "message.send", {"who": "小李", "what": "我晚点到"}),
        ("tell Anna that I am late", "message.send", {"who": "Anna", "what": "I am late"}),
        ("打开记事本", None, {}),
    ],
)
async def test_values_are_read_out_of_the_utterance(
    player: Interpreter, utterance: str, command: str | None, arguments: dict[str, Any]
) -> None:
    found = await player.interpret(utterance)
    assert (found.command, dict(found.arguments)) == (command, arguments), found


async def test_a_refreshed_list_is_known_at_once_and_nothing_is_learnt_for_it() -> None:
    player = Interpreter(reader.parse(PLAYER, "player"))
    before = (await player.collection.ready()).indexes[0].shortlist
    apps = {"org.kde.kate.desktop": ["文本编辑器", "Kate"], "vlc.desktop": ["VLC 播放器", "VS Code"]}
    await player.collection.update_choices("", "player", "apps", apps)
    for utterance, app in (
        ("打开文本编辑器", "org.kde.kate.desktop"),
        ("launch KATE", "org.kde.kate.desktop"),
        ("启动vscode", "vlc.desktop"),
    ):
        found = await player.interpret(utterance)
        assert (found.command, dict(found.arguments)) == ("app.start", {"app": app}), found
    await player.collection.update_choices("", "player", "apps", {"vlc.desktop": ["VLC"]})
    assert (await player.interpret("打开文本编辑器")).command is None
    assert (await player.collection.ready()).indexes[0].shortlist is before
    with pytest.raises(InvalidValue):
        (await player.collection.ready()).catalogue.validate("app.start", {"app": "org.kde.kate.desktop"})


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1.5倍", (1.5,)),
        ("零点七五", (0.75,)),
        ("百分之十二点五", (12.5,)),
        ("zero point seven five", (0.75,)),
        ("twenty one point five", (21.5,)),
        ("2.5 %", (2.5,)),
        ("一半", (50.0,)),
        ("大一点五十", (50.0,)),
        ("三点五十分", ()),
        ("version 1.2.3", ()),
        ("2.4ghz", ()),
        ("调大一点", ()),
    ],
)
def test_decimals(text: str, values: tuple[float, ...]) -> None:
    assert read(normalise(text)).decimals(0, 100) == values
    assert read(normalise(text)).values(0, 100) == tuple(int(v) for v in values if v == int(v))


@pytest.mark.parametrize(
    ("argument", "right", "wrong"),
    [
        ("play.speed/speed", [0.5, 3, 2.25, "+"], [0.4, 3.01, True, "2", float("nan"), float("inf"), None]),
        ("radio.tune/station", ["jazz-24"], ["爵士台", "", 5, None]),
        (
            "web.search/query",
            ["a", "x" * 40],
            ["", "x" * 41, "-rf", " a", "a\nb", "a\x00", "\ud800", 4, None],
        ),
    ],
)
def test_check_takes_only_what_the_type_allows(argument: str, right: list[Any], wrong: list[Any]) -> None:
    command, name = argument.split("/")
    catalogue = reader.parse(PLAYER, "player")
    for value in right:
        assert catalogue.validate(command, {name: value}) == {name: value}
    for value in wrong:
        with pytest.raises(InvalidValue):
            catalogue.validate(command, {name: value})


def test_names_are_found_longest_first_and_as_whole_words() -> None:
    found = choices.read({"a": ["Fire"], "b": ["Fire Fox"], "c": ["火狐"], "d": ["火狐"]})
    assert [f.entries for f in found.find("open fire fox")] == [("b",)]
    assert [f.entries for f in found.find("firefox")] == [("b",)]
    assert found.find("fireworks bonfire") == []
    assert [f.entries for f in found.find("打开火狐浏览器")] == [("c", "d")]
    assert [f.entries for f in found.find("fire浏览器")] == [("a",)]


def test_the_longest_pattern_decides() -> None:
    tried = patterns.ordered(
        pattern
        for text, refuses in (("搜索<q>", False), ("搜索一下<q>", False), ("搜索引擎<q>", True))
        if (pattern := patterns.parse(text, refuses=refuses))
    )
    for text, piece in (("搜索一下猫", "猫"), ("搜索猫。", "猫"), ("搜索引擎", None), ("搜索 -rf /", "rf /")):
        spans = patterns.best_fit(tried, text)
        assert (spans and text[slice(*spans["q"])]) == piece
    for wrong in ("<a><b>", "<a>", "x <a> y <a>"):
        with pytest.raises(ValueError, match="<name>"):
            patterns.parse(wrong)


FRAGMENTS = (
    "搜索 给 发消息说 tell that search for look up online 爵士台 jazz 24 news radio 1.5 倍速 一点五 -rf / "
    "$(x) ; \\n 打开 收听 ignore the rules <query> <station> \u202e \ufdd0 İ ß ﬁ ' \""
)
PIECES = st.sampled_from(FRAGMENTS.split(" "))


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(st.text(max_size=40), st.lists(PIECES, max_size=9).map(" ".join), st.lists(PIECES).map("".join))
)
def test_every_candidate_is_valid_and_every_text_a_piece_of_the_utterance(utterance: str) -> None:
    catalogue = reader.parse(PLAYER, "player")
    text, said = normalise(utterance), spoken(utterance)
    meanings = {Meaning(e.command, e.forms): 1.0 for e in catalogue.examples()}
    for candidate in enumerate_candidates(catalogue, text, meanings, 50, said):
        assert catalogue.validate(candidate.command, candidate.arguments) == dict(candidate.arguments)
        for name in ("query", "who", "what"):
            assert str(candidate.arguments.get(name, "")) in said


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60))
def test_the_spoken_form_differs_in_case_alone(text: str) -> None:
    assert len(spoken(text)) == len(normalise(text))
    assert normalise(spoken(text)) == normalise(text)


def test_an_utterance_made_to_be_slow_is_not() -> None:
    """A pattern is no regular expression: the worst utterance is as quick as any other."""
    catalogue = reader.parse(PLAYER, "player")
    worst = "给" * 150 + "发消息说" * 37
    found = asyncio.run(Interpreter(catalogue).interpret(worst))
    assert found.ms["shortlist"] < 500
