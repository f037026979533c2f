"""What a generation sends for the tokens it draws."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from kylin_gguf.engine.prefix_cache import Slot
from kylin_gguf.engine.tasks import generation as generation_module
from kylin_gguf.engine.tasks.generation import Generation
from kylin_gguf.frames import Frame, decode, encode
from kylin_gguf.records import SamplingOptions

from .conftest import Vocabulary


class Transcript:
    """A stream that keeps its frames."""

    blocked = False

    def __init__(self) -> None:
        self.frames: list[Frame] = []

    def send(self, frame: Frame) -> None:
        self.frames += decode([encode(frame)])

    def joined(self, kind: str) -> str:
        return "".join(frame["text"] for frame in self.frames if frame["type"] == kind)


class Says:
    """A context whose likeliest tokens spell a text."""

    length = 4096

    def __init__(self, vocabulary: Vocabulary, text: str) -> None:
        self._size = vocabulary.size
        self._tokens = [*text.encode(), vocabulary.size - 1]

    def logits(self, index: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
        row = np.zeros(self._size, np.float32)
        row[self._tokens[index]] = 12.0
        return row

    def __len__(self) -> int:
        return len(self._tokens)


def generated(
    vocabulary: Vocabulary, text: str, prompt: str = "Hi", **options: Any
) -> tuple[Transcript, list[Any]]:
    """Return the frames and the report of an answer that spells ``text``."""
    stream, reports, context = Transcript(), [], Says(vocabulary, text)
    task = Generation(
        1,
        vocabulary=vocabulary,
        template="",
        speculator=None,
        prompt=list(prompt.encode()),
        options=SamplingOptions.from_options({"temperature": 0.0, **options}),
        stream=stream,  # type: ignore[arg-type]
        report=lambda *report: reports.append(report),
    )
    slot = Slot(0)
    assert any(task.logits_ready(context, slot, index) for index in range(len(context)))  # type: ignore[arg-type]
    return stream, reports[0]


def test_reasoning_is_sent_apart_and_is_not_reported(vocabulary: Vocabulary) -> None:
    stream, (reason, answer, *_) = generated(vocabulary, "<think>想 END</think>\n好 END", stop=["END"])
    assert (stream.joined("reasoning"), stream.joined("text")) == ("想 END", "好 ")
    assert (reason, answer) == ("stop", "好 ")


def test_a_block_that_the_prompt_opened_is_reasoning(vocabulary: Vocabulary) -> None:
    stream, _ = generated(vocabulary, "thought</think>word", prompt="assistant\n<think>\n")
    assert (stream.joined("reasoning"), stream.joined("text")) == ("thought", "word")
    stream, _ = generated(vocabulary, "word", prompt="assistant\n<think>\n\n</think>\n\n")
    assert (stream.joined("reasoning"), stream.joined("text")) == ("", "word")


def test_sentences_come_where_asked_for_and_only_of_the_answer(vocabulary: Vocabulary) -> None:
    said = "<think>Hm. So.</think>It rains. 下雨了。 And"
    stream, _ = generated(vocabulary, said, sentences=True)
    spoken = [frame["text"] for frame in stream.frames if frame["type"] == "sentence"]
    assert spoken == ["It rains.", "下雨了。", "And"]
    assert stream.joined("text") == "It rains. 下雨了。 And"
    stream, _ = generated(vocabulary, said)
    assert stream.joined("sentence") == ""


def test_with_a_grammar_all_text_is_the_answer(vocabulary: Vocabulary) -> None:
    stream, _ = generated(vocabulary, "12", prompt="<think>", grammar="root ::= [0-9]+")
    assert (stream.joined("reasoning"), stream.joined("text")) == ("", "12")


def test_a_model_without_a_template_ends_at_the_end_of_a_chatml_turn(vocabulary: Vocabulary) -> None:
    stream, (reason, answer, *_) = generated(vocabulary, "done<|im_end|>\nuser")
    assert (reason, answer) == ("stop", "done") and stream.joined("text") == "done"


@pytest.mark.parametrize("top", [-1, 0, 3])
def test_logprobs_are_those_of_the_raw_logits(vocabulary: Vocabulary, top: int) -> None:
    stream, _ = generated(vocabulary, "好ab", logprobs=top)
    frames = [frame for frame in stream.frames if frame["type"] == "logprobs"]
    if top < 0:
        assert not frames
        return
    tokens = [token for frame in frames for token in frame["tokens"]]
    assert [token["text"] for token in tokens[-2:]] == ["a", "b"]
    assert len(tokens) == 5, "three bytes of a character, two letters, and not the end"
    expected = 12.0 - math.log(math.exp(12.0) + vocabulary.size - 1)
    for token in tokens:
        assert token["logprob"] == pytest.approx(expected, abs=1e-4)
        assert len(token["top"]) == top
    if top:
        assert tokens[-1]["top"][0] == {"text": "b", "logprob": tokens[-1]["logprob"]}
        assert tokens[-1]["top"][1]["logprob"] == pytest.approx(expected - 12.0, abs=1e-4)


def test_frames_with_many_logprobs_stay_small(
    vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generation_module, "FRAME_INTERVAL_S", 1e9)
    stream, _ = generated(vocabulary, "a" * 300, logprobs=20)
    frames = [frame for frame in stream.frames if frame["type"] == "logprobs"]
    assert sum(len(frame["tokens"]) for frame in frames) == 300
    assert max(len(encode(frame)) for frame in frames) < 4096
