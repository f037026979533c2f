"""What a model knows of words comes into use with the first command that it is asked of, and stays."""

from __future__ import annotations

import asyncio
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

from kylin_gguf import config
from kylin_gguf.actuator import interpret, word_tables
from kylin_gguf.actuator.candidates import Candidate
from kylin_gguf.actuator.collection import Collection
from kylin_gguf.actuator.interpret import Interpreter
from kylin_gguf.actuator.shortlists import Shortlists
from kylin_gguf.actuator.study import Study
from kylin_gguf.actuator.word_study import WordStudy
from kylin_gguf.actuator.word_tables import WordTables
from kylin_gguf.records import ExecutorAddress, no_progress
from kylin_gguf.understanding import Understanding
from tests.unit.actuator import synonyms
from tests.unit.actuator.catalogues import WALLET
from tests.unit.actuator.models import Model

UNSEEN = {synonyms.unseen(identity): identity for identity in synonyms.IDS}


def make(directory: Path) -> Interpreter:
    tables = WordTables(directory / "words")
    shortlists = Shortlists(directory / "shortlists", words=tables.in_force)
    collection = Collection(synonyms.catalogue(), shortlists.of, shortlists.better)
    words = WordStudy(tables, collection.renew)
    return Interpreter(collection, study=Study(directory / "readouts", words=words))


async def understood(interpreter: Interpreter, model: Model | None = None) -> int:
    """Return how many words that are no examples are understood by the wording."""
    offer = await interpreter.collection.ready()
    found = [
        (max((scores := offer.match(word)), key=scores.__getitem__).command, i) for word, i in UNSEEN.items()
    ]
    return sum(command == identity for command, identity in found)


async def test_commands_are_understood_by_words_alone_until_a_model_has_said_what_they_mean(
    tmp_path: Path,
) -> None:
    interpreter = make(tmp_path)
    model = Model(path=synonyms.model(tmp_path / "m.gguf", 0.3))
    assert await understood(interpreter) < len(UNSEEN)
    assert not (await interpreter.collection.ready()).knows_words
    await interpreter.interpret(next(iter(UNSEEN)), model)
    task = interpreter._study._task  # type: ignore[union-attr]
    assert task
    await task
    assert (await interpreter.collection.ready()).knows_words
    assert await understood(interpreter) == len(UNSEEN)


async def test_after_a_restart_words_are_known_from_the_first_command_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Model(path=synonyms.model(tmp_path / "m.gguf", 0.3))
    await make(tmp_path).learn(model, no_progress)

    def fail(*_: object) -> None:
        raise AssertionError("it was judged before")

    monkeypatch.setattr(word_tables, "_made", fail)
    again = make(tmp_path)
    assert await understood(again) == len(UNSEEN)
    await again.learn(model, no_progress)


async def test_a_model_whose_table_is_worse_changes_nothing(tmp_path: Path) -> None:
    interpreter = make(tmp_path)
    await interpreter.learn(Model("good", path=synonyms.model(tmp_path / "g.gguf", 0.3)), no_progress)
    before = (await interpreter.collection.ready()).indexes[0].shortlist
    await interpreter.learn(Model("poor", path=synonyms.model(tmp_path / "p.gguf", 50.0)), no_progress)
    assert (await interpreter.collection.ready()).indexes[0].shortlist is before


async def test_registered_catalogues_know_words_too(tmp_path: Path) -> None:
    interpreter = make(tmp_path)
    owner = ExecutorAddress(":1.1", "/")
    await interpreter.collection.ready()
    await interpreter.collection.register(owner, "before", WALLET)
    await interpreter.learn(Model(path=synonyms.model(tmp_path / "m.gguf", 0.3)), no_progress)
    await interpreter.collection.register(owner, "after", WALLET)
    offer = await interpreter.collection.ready()
    assert len(offer.indexes) == 3
    assert offer.knows_words


async def test_what_goes_or_comes_while_words_are_learnt_is_not_lost(tmp_path: Path) -> None:
    interpreter = make(tmp_path)
    collection, owner = interpreter.collection, ExecutorAddress(":1.1", "/")
    await collection.ready()
    await collection.register(owner, "goes", WALLET)
    learning = asyncio.ensure_future(
        interpreter.learn(Model(path=synonyms.model(tmp_path / "m.gguf", 0.3)), no_progress)
    )
    await asyncio.sleep(0.01)
    collection.remove(":1.1", "goes")
    await collection.register(owner, "comes", WALLET)
    await learning
    await asyncio.gather(*collection._renewals)
    offer = await collection.ready()
    assert [entry["name"] for entry in collection.listing()] == ["comes"]
    assert len(offer.indexes) == 2
    assert offer.knows_words


@pytest.mark.parametrize(("knows_words", "sure"), [(True, True), (False, False)])
def test_less_belief_is_needed_where_words_are_known(knows_words: bool, sure: bool) -> None:
    said = [Candidate("north", {}, 0.9), Candidate("south", {}, 0.8)]
    assert interpret._sure(Mock(knows_words=knows_words), said, [0.6, 0.3, 0.1]) == sure
    assert not interpret._sure(Mock(knows_words=knows_words), said, [0.4, 0.3, 0.3])


async def test_a_service_puts_it_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word_tables, "QUESTIONS", 200)
    understanding = Understanding(config.load({"cache_dir": str(tmp_path)}))
    interpreter = await understanding.ready()
    rows = {
        f"{synonyms.SPACE}{word}": np.eye(8)[i % 8].tolist() for i, word in enumerate(("volume", "louder"))
    }
    path = synonyms.write_vocabulary(tmp_path / "m.gguf", rows)
    await interpreter._study._words.learn(  # type: ignore[union-attr]
        (await interpreter.collection.ready()).indexes[0], "model", Model(path=path)
    )
    assert list((tmp_path / "words").iterdir()), "what was found out is kept"
    await understanding.close()
