"""The store over real files, with local sources in the place of networks."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from kylin_gguf import catalogue, gguf_info, sources
from kylin_gguf.config import load as load_settings
from kylin_gguf.errors import (
    Cancelled,
    ChecksumMismatch,
    FileMissing,
    ModelNotInstalled,
    ModelReadOnly,
    NoSpace,
    NotGguf,
    NotWritable,
    SourcesExhausted,
    TruncatedGguf,
    UnknownModel,
    UnsupportedModel,
)
from kylin_gguf.records import Progress
from kylin_gguf.sources import base
from kylin_gguf.store import Manifest, Store
from tests import tiny_embedder
from tests.tiny_model import write_model, write_projector

Writer = Callable[..., Path]


class World:
    """Directories of a user and a system, media to install from, and a catalogue that a test fills."""

    def __init__(self, root: Path, write_model: Writer) -> None:
        self.own, self.system, self.media = root / "own", root / "system", root / "media"
        self.system.mkdir()
        self.media.mkdir()
        self._root = root
        self._write_model = write_model
        self._entries: list[dict[str, Any]] = []

    def model(self, path: Path, **options: Any) -> Path:
        path.parent.mkdir(exist_ok=True)
        return self._write_model(path, **options)

    def add(self, name: str, *media: str, **changes: Any) -> Path:
        """Add ``name`` with local sources ``media``; return where its file is installed."""
        reference = self.model(self._root / f"{name}.reference", name=name)
        self._entries.append(
            {
                "name": name,
                "title": name,
                "family": "Tiny",
                "licence": {"id": "MIT", "url": "https://example.org"},
                "languages": ["en"],
                "parameters": 1,
                "file": f"{name}-file.gguf",
                "size": reference.stat().st_size,
                "sha256": hashlib.sha256(reference.read_bytes()).hexdigest(),
                "context_length": 512,
                "minimum_memory": 1,
                "suits": ["chat"],
                "recipe": {"original": "example/tiny", "quantisation": "Q8_0"},
                "note": {"en": "x", "zh": "x"},
                "sources": [{"kind": "local", "path": str(self.media / medium)} for medium in media],
            }
            | changes
        )
        return self.own / f"{name}-file.gguf"

    def medium(self, medium: str, name: str) -> Path:
        """Put the right file of model ``name`` on the medium."""
        return self.model(self.media / medium, name=name)

    def store(self, *defaults: str, default_model: str = "") -> Store:
        path = self._root / "models.yaml"
        names = list(defaults) or [entry["name"] for entry in self._entries]
        path.write_text(yaml.safe_dump({"version": 1, "defaults": names, "models": self._entries}))
        flags = {
            "models_dir": self.own,
            "system_model_dirs": str(self.system),
            "default_model": default_model,
        }
        settings = load_settings(flags, {"HOME": str(self._root)})
        return Store(settings, catalogue.load(path))

    def own_files(self) -> set[str]:
        return {path.name for path in self.own.iterdir() if not path.name.startswith(".")}


@pytest.fixture
def world(tmp_path: Path, write_model: Writer) -> World:
    return World(tmp_path, write_model)


# --- listing and finding --------------------------------------------------------------------------


def test_a_user_without_a_directory_has_no_models(world: World) -> None:
    world.add("one")
    assert world.store().installed() == ()


def test_models_are_listed_from_both_places_and_the_users_own_win(world: World) -> None:
    target = world.add("one")
    world.model(target)
    world.model(world.system / target.name)
    world.model(world.system / "other.gguf")
    (world.own / "notes.txt").write_text("x")
    (world.own / ".hidden.gguf").write_text("x")
    (world.own / "folder.gguf").mkdir()
    listed = {(m.name, m.path.parent.name, m.writable) for m in world.store().installed()}
    assert listed == {("one", "own", True), ("other", "system", False)}


def test_a_file_that_goes_while_the_directory_is_read_is_passed_over(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.add("one")
    world.model(world.own / "stays.gguf")
    listed = [world.own / "gone.gguf", world.own / "stays.gguf"]
    monkeypatch.setattr(Path, "iterdir", lambda self: iter(listed if self == world.own else []))
    assert [model.name for model in world.store().installed()] == ["stays"]


def test_a_file_whose_stem_is_a_catalogue_name_does_not_hide_the_catalogues_file(world: World) -> None:
    target = world.add("one")
    world.model(target)
    world.model(world.own / "one.gguf")
    assert world.store().resolve("one").path == target


def test_names_stems_and_paths_resolve(world: World, tmp_path: Path) -> None:
    target = world.add("one")
    world.model(target)
    elsewhere = world.model(tmp_path / "elsewhere.gguf")
    stem = world.model(world.own / "mine.gguf")
    store = world.store()
    assert store.resolve("one").path == target
    assert store.resolve("mine").path == stem
    by_path = store.resolve(str(elsewhere))
    assert (by_path.name, by_path.path, by_path.writable) == ("elsewhere", elsewhere, False)
    assert store.resolve(str(target)) == store.resolve("one"), "by its path it is another"


def test_the_files_of_a_model_that_is_cut_are_one_model(world: World) -> None:
    world.add("one")
    own = world.own
    own.mkdir(exist_ok=True)
    write_model(own / "cut.gguf", tensors_a_file=1)
    first, second = own / "cut-00001-of-00002.gguf", own / "cut-00002-of-00002.gguf"
    store = world.store()
    (model,) = store.installed()
    assert (model.name, model.path) == ("cut", first)
    assert model.size == first.stat().st_size + second.stat().st_size
    assert store.resolve("cut") == model
    assert store.resolve(str(second)).path == first
    store.remove("cut")
    assert not list(own.iterdir())
    write_model(own / "cut.gguf", tensors_a_file=1)
    second.unlink()
    assert store.installed() == ()
    with pytest.raises(FileMissing, match="one of the 2 files"):
        store.resolve(str(first))


def test_a_relative_path_resolves_to_an_absolute_one(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.add("one")
    path = world.model(tmp_path / "here.gguf")
    monkeypatch.chdir(tmp_path)
    assert world.store().resolve("here.gguf").path == path


def test_what_does_not_resolve_says_why(world: World, tmp_path: Path) -> None:
    world.add("one-model")
    store = world.store()
    with pytest.raises(UnknownModel) as unknown:
        store.resolve("one-modle")
    assert unknown.value.near == ("one-model",)
    with pytest.raises(ModelNotInstalled):
        store.resolve("one-model")
    with pytest.raises(FileMissing):
        store.resolve(str(tmp_path / "none.gguf"))
    with pytest.raises(FileMissing):
        store.resolve("a\0/b.gguf")


def test_an_installed_file_is_checked_when_it_is_resolved(world: World) -> None:
    target = world.add("one")
    content = world.model(target).read_bytes()
    store = world.store()
    target.write_bytes(content[:-100])
    with pytest.raises(TruncatedGguf):
        store.resolve("one")
    target.write_bytes(b"<html>")
    with pytest.raises(NotGguf):
        store.resolve("one")


def test_a_gguf_that_is_no_model_is_refused(world: World, tmp_path: Path) -> None:
    world.add("one")
    text = b"imatrix"
    value = len(b"general.type").to_bytes(8, "little") + b"general.type" + (8).to_bytes(4, "little")
    value += len(text).to_bytes(8, "little") + text
    path = tmp_path / "imatrix.gguf"
    path.write_bytes(b"GGUF\x03\0\0\0" + bytes(8) + (1).to_bytes(8, "little") + value)
    with pytest.raises(UnsupportedModel, match="imatrix"):
        world.store().resolve(str(path))


@pytest.mark.parametrize("kind", ["mmproj", ""])
def test_a_projector_is_refused_by_name_and_by_path(world: World, kind: str) -> None:
    world.add("one")
    world.own.mkdir()
    path = write_projector(world.own / "mmproj-one.gguf", kind)
    for name in ("mmproj-one", str(path)):
        with pytest.raises(UnsupportedModel, match="only a projector") as refused:
            world.store().resolve(name)
        assert refused.value.path == str(path)
    with pytest.raises(ModelNotInstalled):
        world.store().default()


def test_what_is_no_model_is_not_listed_and_can_be_removed(world: World) -> None:
    world.add("one")
    world.model(world.own / "two.gguf")
    (world.own / "broken.gguf").write_bytes(b"GGUF")
    write_projector(world.own / "mmproj-two.gguf")
    store = world.store()
    assert [row["name"] for row in store.listing()] == ["one", "broken", "two"]
    world.model(world.own / "mmproj-two.gguf")  # another file of that name
    assert [row["name"] for row in store.listing()] == ["one", "broken", "mmproj-two", "two"]
    write_projector(world.own / "mmproj-two.gguf")
    store.remove("mmproj-two")
    assert not (world.own / "mmproj-two.gguf").exists()


# --- the default ----------------------------------------------------------------------------------


def test_the_default_is_the_first_installed_of_the_list(world: World) -> None:
    world.add("best")
    world.model(world.add("second"))
    assert world.store("best", "second").default().name == "second"
    world.model(world.own / "best-file.gguf")
    assert world.store("best", "second").default().name == "best"


def test_a_configured_default_wins(world: World) -> None:
    world.model(world.add("one"))
    world.model(world.add("two"))
    assert world.store("one", default_model="two").default().name == "two"
    with pytest.raises(UnknownModel):
        world.store("one", default_model="nonsense").default()


def test_any_model_that_can_chat_is_better_than_none(world: World) -> None:
    world.add("listed")
    world.model(world.add("embedder", suits=["embedding"]))
    world.model(world.own / "aaa-no-template.gguf", template="")
    (world.own / "broken.gguf").write_text("x")
    with pytest.raises(ModelNotInstalled) as caught:
        world.store("listed").default()
    assert caught.value.name == "listed"
    world.model(world.own / "mine.gguf")
    assert world.store("listed").default().name == "mine"


def test_the_default_for_vectors_is_the_catalogues_first_else_any(world: World) -> None:
    world.model(world.add("chatter"))
    with pytest.raises(UnknownModel):
        world.store().default_embedder()
    second = world.add("second", suits=["embedding"])
    with pytest.raises(ModelNotInstalled) as caught:
        world.store().default_embedder()
    assert caught.value.name == "second"
    (world.own / "broken.gguf").write_text("x")
    tiny_embedder.bert(world.own / "mine.gguf")
    assert world.store().default_embedder().name == "mine"
    tiny_embedder.bert(second)
    assert world.store().default_embedder().name == "second"
    assert world.store("chatter").default().name == "chatter"


# --- pulling --------------------------------------------------------------------------------------


def test_a_pull_installs_verifies_and_records(world: World) -> None:
    target = world.add("one", "disc.gguf")
    medium = world.medium("disc.gguf", "one")
    store = world.store()
    model = store.pull("one")
    assert (model.name, model.path, model.writable) == ("one", target, True)
    assert model.size == medium.stat().st_size
    assert target.read_bytes() == medium.read_bytes()
    assert world.own_files() == {target.name, f"{target.name}.json"}
    manifest = store.manifest(model)
    assert manifest is not None
    assert manifest.sha256 == hashlib.sha256(medium.read_bytes()).hexdigest()
    assert (manifest.source, manifest.licence, manifest.skipped) == (f"local {medium}", "MIT", ())
    assert store.resolve("one") == model


def test_sources_are_tried_in_order_and_failures_are_told_and_recorded(world: World) -> None:
    world.add("one", "absent.gguf", "disc.gguf")
    world.medium("disc.gguf", "one")
    seen: list[Progress] = []
    store = world.store()
    model = store.pull("one", seen.append)
    failure = f"local {world.media / 'absent.gguf'}: No such file or directory"
    assert failure in [p.stage for p in seen]
    manifest = store.manifest(model)
    assert manifest is not None
    assert manifest.skipped == (failure,)


def test_when_no_source_delivers_all_reasons_are_given(world: World) -> None:
    world.add("one", "a.gguf", "b.gguf")
    with pytest.raises(SourcesExhausted) as caught:
        world.store().pull("one")
    assert [a.rpartition("/")[2] for a in caught.value.attempts] == [
        "a.gguf: No such file or directory",
        "b.gguf: No such file or directory",
    ]
    assert world.own_files() == set()


def test_a_model_without_sources_says_what_to_convert(world: World) -> None:
    world.add("one")
    with pytest.raises(SourcesExhausted, match="convert it from example/tiny"):
        world.store().pull("one")


def test_an_unknown_name_is_refused(world: World) -> None:
    world.add("one")
    with pytest.raises(UnknownModel):
        world.store().pull("oen")


def test_other_bytes_than_the_pinned_ones_are_discarded(world: World) -> None:
    world.add("one", "forged.gguf", "absent.gguf")
    world.medium("forged.gguf", "two")
    with pytest.raises(ChecksumMismatch):
        world.store().pull("one")
    assert world.own_files() == set()
    assert not [path for path in world.own.rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_after_other_bytes_the_next_source_is_tried(world: World) -> None:
    target = world.add("one", "forged.gguf", "disc.gguf")
    world.medium("forged.gguf", "two")
    world.medium("disc.gguf", "one")
    assert world.store().pull("one").path == target
    assert gguf_info.read(target).name == "one"


def test_an_unpinned_file_must_at_least_be_a_gguf(world: World) -> None:
    world.add("one", "page.gguf", size=None, sha256=None)
    (world.media / "page.gguf").write_text("<html>")
    with pytest.raises(SourcesExhausted, match="letters GGUF"):
        world.store().pull("one")
    world.medium("page.gguf", "whatever")
    assert world.store().pull("one").name == "one"


def no_fetch(*_: object) -> None:
    raise AssertionError("fetched")


def test_what_is_installed_is_not_fetched_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.add("one", "disc.gguf")
    world.medium("disc.gguf", "one")
    first = world.store().pull("one")
    monkeypatch.setattr(sources, "fetch", no_fetch)
    assert world.store().pull("one") == first


def test_the_systems_copy_is_enough(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    target = world.add("one", "disc.gguf")
    world.model(world.system / target.name, name="one")
    monkeypatch.setattr(sources, "fetch", no_fetch)
    assert world.store().pull("one").path == world.system / target.name


def test_a_pinned_file_of_unpublished_size_is_recognised(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.add("one", "disc.gguf", size=None)
    world.medium("disc.gguf", "one")
    first = world.store().pull("one")
    monkeypatch.setattr(sources, "fetch", no_fetch)
    assert world.store().pull("one") == first


def test_a_file_put_there_by_hand_is_hashed_once_it_is_asked_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = world.add("one", "disc.gguf")
    world.model(target, name="one")
    monkeypatch.setattr(sources, "fetch", no_fetch)
    assert world.store().pull("one").path == target


@pytest.mark.parametrize("damage", ["cut", "other", "foreign manifest"])
def test_a_damaged_file_is_replaced(world: World, damage: str) -> None:
    target = world.add("one", "disc.gguf")
    right = world.medium("disc.gguf", "one").read_bytes()
    world.model(target, name="one")
    if damage == "cut":
        target.write_bytes(right[:-100])
    else:
        target.write_bytes(right[:-1] + b"\x55")
    if damage == "foreign manifest":
        Manifest.path(target).write_text(json.dumps({"sha256": hashlib.sha256(right).hexdigest()}))
    world.store().pull("one")
    assert target.read_bytes() == right


def test_default_means_the_first_that_can_be_had(world: World) -> None:
    world.add("best", "absent.gguf")
    world.add("second", "disc.gguf")
    world.medium("disc.gguf", "second")
    seen: list[Progress] = []
    store = world.store("best", "second")
    assert store.pull("default", seen.append).name == "second"
    stages = [p.stage for p in seen]
    assert any("absent.gguf: No such file" in stage for stage in stages)
    assert "instead: second" in stages
    world.medium("absent.gguf", "best")
    assert store.pull("").name == "best"


def test_when_no_default_can_be_had_every_reason_is_given(world: World) -> None:
    world.add("best", "a.gguf")
    world.add("second", "b.gguf")
    with pytest.raises(SourcesExhausted) as caught:
        world.store("best", "second").pull()
    assert caught.value.name == "default"
    assert len(caught.value.attempts) == 2


def free_bytes(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    monkeypatch.setattr(base.shutil, "disk_usage", lambda _: type("Usage", (), {"free": free}))


def test_too_little_space_is_noticed_before_anything_is_fetched(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.add("one", "disc.gguf")
    size = world.medium("disc.gguf", "one").stat().st_size
    free_bytes(monkeypatch, size - 1)
    monkeypatch.setattr(sources, "fetch", no_fetch)
    with pytest.raises(NoSpace) as caught:
        world.store().pull("one")
    assert (caught.value.needed, caught.value.free) == (size, size - 1)


def test_a_default_that_does_not_fit_gives_way_to_a_smaller_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.add("best", "a.gguf", size=1 << 40)
    world.add("second", "disc.gguf")
    world.medium("disc.gguf", "second")
    free_bytes(monkeypatch, 1 << 30)
    assert world.store("best", "second").pull().name == "second"
    free_bytes(monkeypatch, 10)
    with pytest.raises(NoSpace):
        world.store("best").pull()


def test_a_directory_that_cannot_be_made_is_named(world: World) -> None:
    world.add("one", "disc.gguf")
    world.own.write_text("a file is in the way")
    with pytest.raises(NotWritable) as caught:
        world.store().pull("one")
    assert caught.value.path == str(world.own)


def test_a_cancelled_pull_installs_nothing(world: World) -> None:
    world.add("one", "disc.gguf")
    world.medium("disc.gguf", "one")
    with pytest.raises(Cancelled):
        world.store().pull("one", cancelled=lambda: True)
    assert world.own_files() == set()


def test_two_pulls_of_one_model_do_not_meet(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    target = world.add("one", "disc.gguf")
    world.medium("disc.gguf", "one")
    fetching, go_on = threading.Event(), threading.Event()
    fetches: list[object] = []
    original = sources.fetch

    def slow_fetch(*arguments: Any) -> sources.Fetched:
        fetches.append(arguments)
        fetching.set()
        go_on.wait(30)
        return original(*arguments)

    monkeypatch.setattr(sources, "fetch", slow_fetch)
    waiting = threading.Event()

    def second_progress(progress: Progress) -> None:
        if progress.stage.startswith("wait for another pull"):
            waiting.set()
            go_on.set()

    results: list[Path] = []
    first = threading.Thread(target=lambda: results.append(world.store().pull("one").path))
    first.start()
    assert fetching.wait(30)
    second = world.store().pull("one", second_progress)
    first.join(30)
    assert waiting.is_set()
    assert results == [second.path] == [target]
    assert len(fetches) == 1


# --- removing -------------------------------------------------------------------------------------


def test_removing_takes_the_manifest_too(world: World) -> None:
    world.add("one", "disc.gguf")
    world.medium("disc.gguf", "one")
    store = world.store()
    store.pull("one")
    store.remove("one")
    assert world.own_files() == set()
    with pytest.raises(ModelNotInstalled):
        store.remove("one")
    with pytest.raises(UnknownModel):
        store.remove("oen")


def test_the_systems_models_and_plain_paths_cannot_be_removed(world: World, tmp_path: Path) -> None:
    target = world.add("one")
    system = world.model(world.system / target.name)
    elsewhere = world.model(tmp_path / "elsewhere.gguf")
    store = world.store()
    with pytest.raises(ModelReadOnly) as caught:
        store.remove("one")
    assert caught.value.path == str(system)
    with pytest.raises(UnknownModel):
        store.remove(str(elsewhere))
    assert system.exists()
    assert elsewhere.exists()


def test_installed_files_are_readable_by_others_and_manifests_too(world: World) -> None:
    world.add("one", "disc.gguf")
    world.medium("disc.gguf", "one")
    old = os.umask(0o022)
    try:
        path = world.store().pull("one").path
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == 0o644
    assert Manifest.path(path).stat().st_mode & 0o777 == 0o644
