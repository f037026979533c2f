"""Vectors of words out of a model: a table that tells examples apart is used, and kept; another is not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kylin_gguf.actuator import word_making
from kylin_gguf.actuator.shortlist import Shortlist
from kylin_gguf.actuator.word_tables import WordTables
from kylin_gguf.errors import FileMissing
from tests.tiny_model import write_model, write_vocabulary
from tests.unit.actuator import synonyms

CATALOGUE = synonyms.catalogue()
TEXTS = [example.text for example in CATALOGUE.examples()]


@pytest.mark.parametrize(
    ("space", "tokenizer"), [(synonyms.SPACE, "gpt2"), ("\N{LOWER ONE EIGHTH BLOCK}", "llama")]
)
def test_words_that_a_model_holds_for_alike_are_near(tmp_path: Path, space: str, tokenizer: str) -> None:
    words = word_making.make(synonyms.model(tmp_path / "m.gguf", 0.3, space, tokenizer), TEXTS)
    assert words
    north, other, south = (
        words.of(word) for word in (*synonyms.WORDS["north"][:2], synonyms.unseen("south"))
    )
    assert north @ other > 0.8
    assert north @ south < 0.3


def test_chinese_and_bytes(tmp_path: Path) -> None:
    """Byte-level BPE writes 大 as three characters; what is not a whole character is no piece."""
    numbers = np.random.default_rng(1).standard_normal((4, 8)).tolist()
    tokens = dict(zip(("å¤§", "å¤", "Ġbig", "BIG"), numbers, strict=True))
    words = word_making.make(write_vocabulary(tmp_path / "m.gguf", tokens), ["大", "big", "大 big"])
    assert words
    assert words.arrays()["pieces"].tobytes().decode().split("\n") == ["大", " big"]
    assert words.of("大") @ words.of("big") < 0


def test_numbers_that_are_none_do_no_harm(tmp_path: Path) -> None:
    rows = {f"{synonyms.SPACE}{word}": [float("nan"), float("inf"), 1.0, 2.0] for word in TEXTS}
    words = word_making.make(write_vocabulary(tmp_path / "m.gguf", rows), TEXTS)
    assert words
    assert np.isfinite(words.of(TEXTS[0])).all()


def test_a_model_that_knows_none_of_the_words_has_no_table(tmp_path: Path) -> None:
    assert word_making.make(write_model(tmp_path / "m.gguf", vocabulary=30), TEXTS) is None


def test_a_word_that_no_example_has_is_understood(tmp_path: Path) -> None:
    words = word_making.make(synonyms.model(tmp_path / "m.gguf", 0.3), TEXTS)
    for identity in synonyms.IDS:
        scores = Shortlist(CATALOGUE, words).match(synonyms.unseen(identity))
        assert max(scores, key=scores.__getitem__).command == identity


def test_a_table_that_helps_is_in_force_and_stays(tmp_path: Path) -> None:
    tables = WordTables(tmp_path / "words")
    assert tables.in_force() is None
    assert tables.judge("good", synonyms.model(tmp_path / "m.gguf", 0.5), CATALOGUE)
    made = tables.in_force()
    again = WordTables(tmp_path / "words")
    kept = again.in_force()
    assert made and kept and made.digest == kept.digest
    assert kept is again.in_force()
    assert again.knows("good")


def test_a_table_that_does_not_help_is_remembered_and_not_used(tmp_path: Path) -> None:
    assert not WordTables(tmp_path).judge("poor", synonyms.model(tmp_path / "m.gguf", 50.0), CATALOGUE)
    again = WordTables(tmp_path)
    assert again.in_force() is None
    assert again.knows("poor")
    assert not again.knows("another")


@pytest.mark.parametrize("good_first", [True, False])
def test_of_two_the_better_one_is_in_force_whichever_came_first(tmp_path: Path, good_first: bool) -> None:
    noises = {"good": 0.5, "fair": 3.0}
    only = {}
    for name, noise in noises.items():
        path = synonyms.model(tmp_path / f"{name}.gguf", noise)
        one = WordTables(tmp_path / name)
        assert one.judge(name, path, CATALOGUE)
        only[name] = one.in_force()
    both = WordTables(tmp_path / "both")
    order = ("good", "fair") if good_first else ("fair", "good")
    changed = [both.judge(name, tmp_path / f"{name}.gguf", CATALOGUE) for name in order]
    assert changed == ([True, False] if good_first else [True, True])
    found, good = both.in_force(), only["good"]
    assert found and good and found.digest == good.digest


def test_a_file_without_vectors_is_remembered_and_one_that_is_gone_is_not(tmp_path: Path) -> None:
    tables = WordTables(tmp_path / "words")
    assert not tables.judge("odd", write_model(tmp_path / "m.gguf", vocabulary=40), CATALOGUE)
    assert tables.knows("odd")
    with pytest.raises(FileMissing):
        tables.judge("gone", tmp_path / "gone.gguf", CATALOGUE)
    assert not tables.knows("gone")


def test_a_damaged_table_is_none(tmp_path: Path) -> None:
    WordTables(tmp_path / "words").judge("good", synonyms.model(tmp_path / "m.gguf", 0.5), CATALOGUE)
    [path] = (tmp_path / "words").glob("in-force*")
    path.write_bytes(path.read_bytes()[:500])
    assert WordTables(tmp_path / "words").in_force() is None


def test_a_large_catalogue_is_judged_by_a_part_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    class Counting(Shortlist):
        def leave_one_out(self):  # type: ignore[no-untyped-def]
            seen.append(len(self.examples))
            return super().leave_one_out()

    monkeypatch.setattr("kylin_gguf.actuator.word_tables.Shortlist", Counting)
    monkeypatch.setattr("kylin_gguf.actuator.word_tables.QUESTIONS", 60)
    negatives = tuple(replace(e, text=e.text * 2, command=None) for e in CATALOGUE.commands[0].examples)
    large = replace(CATALOGUE, negatives=negatives)
    WordTables(tmp_path / "words").judge("good", synonyms.model(tmp_path / "m.gguf", 0.5), large)
    assert seen == [73, 73]
