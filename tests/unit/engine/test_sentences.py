"""Sentences for reading aloud, whole texts and streams of any pieces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kylin_gguf.engine.sentences import MAX_CHARS, SentenceSplitter, split

# Each list is what its joined text is split into.
TEXTS = {
    "Chinese": ["今天天气很好。", "我们去公园吧！", "你去吗？", "好的"],
    "repeated marks": ["真的吗？！", "太好了！！！", "走吧。"],
    "Chinese ellipsis": ["我……不知道。", "算了。"],
    "ASCII marks in Chinese": ["真的吗?", "是的!", "走吧。"],
    "Chinese quotes": ["他说：“你好。”", "然后走了。"],
    "brackets": ["（完。）", "下一句。"],
    "decimal in Chinese": ["圆周率是3.14。", "版本是1.2.3。"],
    "emoji stay with their sentence": ["太好了！😊", "我们开始吧。👍🏽"],
    "mixed": ["打开 Wi-Fi 设置。", "OK.", "然后选择网络。"],
}
ENGLISH = {
    "plain": ["It rains.", "Take an umbrella!", "Will you?", "Yes"],
    "titles": ["Dr. Smith met Mrs. Jones.", "They talked."],
    "initials": ["J. R. R. Tolkien wrote it.", "Read it."],
    "latin": ["Use fruit, e.g. apples, i.e. what you have.", "Then mix."],
    "etc inside": ["Pens, paper, etc. are there.", "Begin."],
    "etc at the end": ["Pens, paper, etc.", "Begin."],
    "time": ["Come at 5 p.m. or later.", "The shop closes at 6 p.m.", "Be quick."],
    "countries": ["The U.S. economy grew.", "It fell in the U.S.", "Then it rose."],
    "numbers": ["Pi is 3.14159 or so.", "It was 1999.", "It cost $2.50."],
    "addresses": ["See example.com/a?b=c!d for more.", "Or write to a.b@c.org."],
    "ellipsis": ["Well... maybe not.", "Or so...", "Who knows?"],
    "quotes": ['He said "Stop!"', 'She said "No."', "They left."],
    "before numbers": ["See No. 5 and Fig. 2 of Jan. 3.", "No.", "It ended in Dec.", "Yes."],
    "emphasis": ["This is **bold.**", "Next."],
    "I": ["It was I.", "You knew."],
    "inline code": ["Call `a. B()` first.", "Then wait."],
    "file names": ["Edit config.yaml and main.py.", "Save."],
}


@pytest.mark.parametrize("name", TEXTS)
def test_chinese(name: str) -> None:
    assert split("".join(TEXTS[name])) == TEXTS[name]


@pytest.mark.parametrize("name", ENGLISH)
def test_english(name: str) -> None:
    assert split(" ".join(ENGLISH[name])) == ENGLISH[name]


def test_lines_and_lists() -> None:
    text = "Steps\n1. Open it. Look inside.\n2. Close it\n\n- 第一\n- 第二。好\n---\n# Title\n"
    assert split(text) == [
        *("Steps", "1. Open it.", "Look inside.", "2. Close it"),
        *("- 第一", "- 第二。", "好", "# Title"),
    ]


@pytest.mark.parametrize(
    "fence", ["```\n{}\n```", "```python\n{}\n```", "~~~~\n{}\n```\n~~~~", "  ```\n{}\n  ```"]
)
def test_code_is_left_out(fence: str) -> None:
    text = f"Run this:\n{fence.format('a. B()? c! 好。')}\nDone. Good."
    assert split(text) == ["Run this:", "Done.", "Good."]


def test_code_without_an_end_is_left_out() -> None:
    assert split("Run this:\n```sh\nrm a. B\nmore") == ["Run this:"]


def test_what_cannot_be_read_is_no_sentence() -> None:
    assert split("😊 🎉\n---\n！！！\n") == []
    assert split("好！ 😊 走。") == ["好！", "😊 走。"]


def test_a_sentence_comes_as_soon_as_it_is_sure() -> None:
    splitter = SentenceSplitter()
    assert splitter.push("今天好。") == []  # a quote could close it
    assert splitter.push("明") == ["今天好。"]
    assert splitter.push("天也好。It rains.") == ["明天也好。"]
    assert splitter.push(" ") == ["It rains."]
    assert splitter.push("At 5 p.m.") == []
    assert splitter.push(" ") == []
    assert splitter.push("I go") == ["At 5 p.m."]
    assert splitter.finish() == ["I go"]


def test_text_without_an_end_is_cut_at_a_pause() -> None:
    text = "很长的一句话，" * 200
    pieces = split(text)
    assert "".join(pieces) == text
    assert all(len(piece) <= MAX_CHARS and piece.endswith("，") for piece in pieces)
    assert [len(piece) for piece in split("x" * (MAX_CHARS * 2 + 1))] == [MAX_CHARS, MAX_CHARS, 1]


ALPHABET = st.sampled_from([*'aZ9 .!?…\n`~。！？，”")（-😊好', "e.g. ", "Dr. ", "```\n", "p.m. "])


@given(st.lists(ALPHABET, max_size=60).map("".join), st.data())
def test_pieces_do_not_matter(text: str, data: st.DataObject) -> None:
    whole, splitter, pieces = split(text), SentenceSplitter(), []
    rest = text
    while rest:
        length = data.draw(st.integers(1, len(rest)))
        pieces += splitter.push(rest[:length])
        rest = rest[length:]
    assert [*pieces, *splitter.finish()] == whole


@given(st.text(st.characters(exclude_characters="`~", exclude_categories=["Cs"]), max_size=200))
def test_nothing_that_can_be_read_is_lost(text: str) -> None:
    def readable(given: str) -> str:
        return "".join(character for character in given if character.isalnum())

    assert readable("".join(split(text))) == readable(text)
