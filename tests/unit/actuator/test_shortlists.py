"""What training came to is kept, found again, and never trusted when it is something else."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kylin_gguf.actuator import reader, ridge, shortlists
from kylin_gguf.actuator.catalogue import CommandCatalogue
from kylin_gguf.actuator.shortlist import Shortlist
from kylin_gguf.actuator.shortlists import Shortlists
from kylin_gguf.actuator.word_vectors import Pieces, WordVectors, pack
from tests.unit.actuator.catalogues import PLAYER

UTTERANCE = "play some music"


@pytest.fixture
def catalogue() -> CommandCatalogue:
    return reader.parse(PLAYER, "player")


def trainings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note each catalogue that is trained on from now on."""
    seen: list[str] = []

    def train(catalogue: CommandCatalogue, words: WordVectors | None, *trained: object) -> Shortlist:
        if not trained:
            seen.append(catalogue.name)
        return Shortlist(catalogue, words, *trained)  # type: ignore[arg-type]

    monkeypatch.setattr(shortlists, "Shortlist", train)
    return seen


def test_a_second_start_does_not_train(
    tmp_path: Path, catalogue: CommandCatalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = trainings(monkeypatch)
    first = Shortlists(tmp_path).of(catalogue).match(UTTERANCE)
    again = Shortlists(tmp_path).of(catalogue).match(UTTERANCE)
    assert seen == ["player"]
    assert first == again


def test_another_directory_is_only_read(
    tmp_path: Path, catalogue: CommandCatalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    Shortlists(tmp_path / "package").of(catalogue)
    seen = trainings(monkeypatch)
    Shortlists(tmp_path / "cache", tmp_path / "package").of(catalogue)
    assert not seen
    assert not (tmp_path / "cache").exists()


def test_every_process_makes_the_same_file(tmp_path: Path) -> None:
    train = (
        "import pathlib, sys; from kylin_gguf.actuator import reader, shortlists;"
        "from tests.unit.actuator.catalogues import PLAYER;"
        "shortlists.Shortlists(pathlib.Path(sys.argv[1])).of(reader.parse(PLAYER, 'player'))"
    )
    made = []
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": seed}
        subprocess.run([sys.executable, "-c", train, str(tmp_path / seed)], env=environment, check=True)
        made.append({path.name: path.read_bytes() for path in (tmp_path / seed).iterdir()})
    assert made[0] == made[1]
    assert len(made[0]) == 1


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 half an archive"])
def test_a_damaged_file_is_replaced(
    tmp_path: Path, catalogue: CommandCatalogue, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = Shortlists(tmp_path).of(catalogue).match(UTTERANCE)
    [path] = tmp_path.glob("*.npz")
    path.write_bytes(content)
    seen = trainings(monkeypatch)
    assert Shortlists(tmp_path).of(catalogue).match(UTTERANCE) == expected
    assert seen == ["player"]
    assert path.stat().st_size > len(content)


def test_arrays_of_something_else_are_refused(tmp_path: Path, catalogue: CommandCatalogue) -> None:
    Shortlists(tmp_path).of(catalogue)
    [path] = tmp_path.glob("*.npz")
    with path.open("wb") as file:
        np.savez(file, features=np.zeros(3))
    assert Shortlists(tmp_path).of(catalogue).match(UTTERANCE)


def test_a_directory_that_cannot_be_written_costs_only_the_training(
    tmp_path: Path, catalogue: CommandCatalogue, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    assert Shortlists(tmp_path / "file" / "below").of(catalogue).match(UTTERANCE)
    assert "not kept" in caplog.text


def test_old_files_make_room(tmp_path: Path) -> None:
    for number in range(4):
        text = PLAYER.replace("play faster", f"play {number} times faster")
        Shortlists(tmp_path, limit=2).of(reader.parse(text, "player"))
    assert len(list(tmp_path.glob("*.npz"))) == 2


def words(number: int) -> WordVectors:
    """Return vectors, of which each ``number`` has its own, of some of the words."""
    rows = np.random.default_rng(number).standard_normal((3, 4)).astype(np.float32)
    return WordVectors(Pieces([" play", " faster", " song"]), *pack(rows))


def test_what_is_at_hand_serves_until_there_is_a_better_one(
    tmp_path: Path, catalogue: CommandCatalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_force: list[WordVectors | None] = [None]
    kept = Shortlists(tmp_path, words=lambda: in_force[0])
    old = kept.of(catalogue)
    assert kept.better(catalogue, old) is None
    in_force[0] = words(1)
    seen = trainings(monkeypatch)
    assert kept.of(catalogue).words is None
    assert seen == [], "nobody waits for a training"
    better = kept.better(catalogue, old)
    assert better and better.words is in_force[0]
    assert seen == ["player"]
    assert better.match(UTTERANCE) != old.match(UTTERANCE)
    assert kept.better(catalogue, better) is None

    again = Shortlists(tmp_path, words=lambda: in_force[0]).of(catalogue)
    assert again.match(UTTERANCE) == better.match(UTTERANCE)
    in_force[0] = words(2)
    other = kept.better(catalogue, better)
    assert other and other.match(UTTERANCE) != better.match(UTTERANCE)
    assert seen == ["player", "player"]


def test_where_nothing_is_at_hand_words_count_from_the_first(
    tmp_path: Path, catalogue: CommandCatalogue
) -> None:
    known = words(1)
    assert Shortlists(tmp_path, words=lambda: known).of(catalogue).words is known


@pytest.mark.parametrize("known", [None, words(1)])
def test_what_is_left_out_is_what_was_not_learnt(
    catalogue: CommandCatalogue, known: WordVectors | None
) -> None:
    """The closed form agrees with learning without the example, but for the rarities."""
    whole = Shortlist(catalogue, known)
    kernel = whole._kernel().astype(np.float64)
    wanted, count = whole._wanted(), len(whole.examples)
    for i, (example, scores) in enumerate(whole.leave_one_out()):
        rest = [j for j in range(count) if j != i]
        gram = kernel[np.ix_(rest, rest)] + whole._ridge * np.eye(len(rest))
        regression = (kernel[i, rest] @ np.linalg.solve(gram, wanted[rest])).astype(np.float32)
        similarity = whole._shared()[i]
        similarity[i] = 0.0
        expected = whole._mixed(similarity, regression)
        assert example is whole.examples[i]
        assert scores == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("count", [1, 511, 512, 1100])
def test_the_factorisation_solves_what_numpy_solves(count: int) -> None:
    random = np.random.default_rng(count)
    documents = random.normal(size=(count, 2 * count)).astype(np.float32)
    documents /= np.linalg.norm(documents, axis=1, keepdims=True)
    kernel = documents @ documents.T
    classes = random.integers(0, 3, count).astype(np.int32)
    expected = np.linalg.solve(kernel.astype(np.float64) + 0.35 * np.eye(count), ridge.targets(classes, 3))
    np.testing.assert_allclose(ridge.fit(kernel, ridge.targets(classes, 3), 0.35), expected, atol=1e-4)


def test_similarities_of_frequent_and_rare_features_add_up() -> None:
    random = np.random.default_rng(1)
    dense = np.where(random.random((700, 40)) < np.linspace(0.01, 0.6, 40), random.random((700, 40)), 0)
    dense = dense.astype(np.float32)
    columns = [(np.flatnonzero(column).astype(np.int32), column[column != 0]) for column in dense.T]
    np.testing.assert_allclose(ridge.similarities(columns, 700), dense @ dense.T, rtol=1e-4, atol=1e-5)
