"""Entries of models.yaml for models that a server has: what is read, refused, and never chosen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from kylin_gguf import catalogue, config
from kylin_gguf.catalogue import Catalogue
from kylin_gguf.errors import CatalogueInvalid, ModelNotInstalled, NotLocal, UnknownModel
from kylin_gguf.records import RemoteModel
from kylin_gguf.store import Store
from tests.unit.models.test_catalogue import entry

SERVER = {"url": "https://llm.example.org/v1", "model": "Qwen/Qwen3-235B"}


def remote(**changes: Any) -> dict[str, Any]:
    return {"name": "fleet", "title": "Fleet", "remote": SERVER | changes}


def load(directory: Path, *entries: dict[str, Any], **changes: Any) -> Catalogue:
    content = {"version": 1, "defaults": ["tiny-1b"], "models": [entry(), *entries]} | changes
    (directory / "models.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return catalogue.load(directory / "models.yaml")


def test_an_entry_is_read(tmp_path: Path) -> None:
    (found,) = load(tmp_path, remote(url="https://llm.example.org:8443/v1/", token_file="secret")).remotes
    assert found == RemoteModel(
        "fleet", "Fleet", "https://llm.example.org:8443/v1", "Qwen/Qwen3-235B", tmp_path / "secret"
    )
    assert found.host == "llm.example.org:8443"
    assert RemoteModel.from_json(found.to_json()) == found


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000/v1", "http://localhost/v1", "http://[::1]:80/v1"])
def test_this_machine_may_be_asked_without_encryption(tmp_path: Path, url: str) -> None:
    assert load(tmp_path, remote(url=url)).remotes[0].url == url


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://llm.example.org/v1", "must be https"),
        ("http://127.0.0.1.example.org/v1", "must be https"),
        ("http://10.0.0.1/v1", "must be https"),
        ("http://localhost.example.org/v1", "must be https"),
        ("https://user:secret@llm.example.org/v1", "does not belong here"),
        ("https://llm.example.org/v1?key=secret", "more than a server and a path"),
        ("https://llm.example.org/v1#x", "more than a server and a path"),
        ("https:///v1", "names no server"),
        ("https://llm.example.org:99999/v1", "Port"),
        ("ftp://llm.example.org/v1", "form"),
        ("https://llm.example.org/v1\n", "form"),
    ],
)
def test_an_address_that_is_not_safe_or_none_is_refused(tmp_path: Path, url: str, reason: str) -> None:
    with pytest.raises(CatalogueInvalid) as caught:
        load(tmp_path, remote(url=url))
    assert caught.value.where == "models[fleet].remote.url"
    assert reason in caught.value.reason and "secret@" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "where", "reason"),
    [
        ({"token": "sk-secret"}, "remote.token", "did you mean"),
        ({"token_fil": "x"}, "remote.token_fil", "token_file"),
        ({"token_file": "x", "token_env": "X"}, "remote.token_env", "token_file already"),
        ({"token_env": "A B"}, "remote.token_env", "form"),
        ({"model": ""}, "remote.model", "form"),
    ],
)
def test_keys_are_held_to_what_there_is(
    tmp_path: Path, changes: dict[str, Any], where: str, reason: str
) -> None:
    with pytest.raises(CatalogueInvalid) as caught:
        load(tmp_path, remote(**changes))
    assert caught.value.where == f"models[fleet].{where}"
    assert reason in caught.value.reason and "sk-secret" not in str(caught.value)


def test_what_is_of_files_does_not_stand_beside_a_server(tmp_path: Path) -> None:
    with pytest.raises(CatalogueInvalid, match="unknown key"):
        load(tmp_path, entry(name="other", file="other.gguf") | {"remote": SERVER})


def test_a_server_s_model_is_no_default(tmp_path: Path) -> None:
    with pytest.raises(CatalogueInvalid, match="not on this machine"):
        load(tmp_path, remote(), defaults=["fleet"])


def test_a_catalogue_can_add_to_another(tmp_path: Path) -> None:
    load(tmp_path)
    own = tmp_path / "own.yaml"
    own.write_text(yaml.safe_dump({"version": 1, "extends": "models.yaml", "models": [remote()]}))
    found = catalogue.load(own)
    assert (found.names(), found.defaults, found.remotes[0].name) == (("tiny-1b",), ("tiny-1b",), "fleet")
    third = tmp_path / "third.yaml"
    third.write_text(yaml.safe_dump({"version": 1, "extends": "own.yaml", "models": []}))
    with pytest.raises(CatalogueInvalid, match="itself"):
        catalogue.load(third)
    own.write_text(yaml.safe_dump({"version": 1, "extends": "none.yaml", "models": []}))
    with pytest.raises(CatalogueInvalid, match=r"none\.yaml"):
        catalogue.load(own)


def test_names_do_not_meet(tmp_path: Path) -> None:
    with pytest.raises(CatalogueInvalid, match="two models have the name"):
        load(tmp_path, remote() | {"name": "tiny-1b"})


# --- the store ----------------------------------------------------------------------------------------


def store(directory: Path, **settings: Any) -> Store:
    known = load(directory, remote())
    places = {"models_dir": directory / "models", "system_model_dirs": ()}
    return Store(config.load(places | settings, {}), known)


def test_it_is_found_by_its_name_and_only_where_it_may_be(tmp_path: Path) -> None:
    found = store(tmp_path)
    assert found.find("fleet") == found.remotes()[0]
    with pytest.raises(NotLocal) as caught:
        found.resolve("fleet", "a plan")
    assert caught.value.fields() == {"name": "fleet", "host": "llm.example.org", "what": "a plan"}
    with pytest.raises(NotLocal):
        found.pull("fleet")
    with pytest.raises(NotLocal):
        found.remove("fleet")
    with pytest.raises(UnknownModel) as unknown:
        found.find("fleets")
    assert unknown.value.near == ("fleet",)


def test_it_is_never_what_is_used_when_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelNotInstalled):
        store(tmp_path).default()
    with pytest.raises(UnknownModel):
        store(tmp_path).default_embedder()
    named = store(tmp_path, default_model="fleet")
    with pytest.raises(NotLocal):
        named.default()
    assert named.default_name() == ""


def test_the_listing_marks_it(tmp_path: Path) -> None:
    rows = {row["name"]: row for row in store(tmp_path).listing()}
    assert rows["fleet"] == {
        "name": "fleet",
        "title": "Fleet",
        "local": False,
        "remote": "llm.example.org",
        "size": 0,
        "installed": False,
        "default": False,
        "path": "",
    }
    assert rows["tiny-1b"]["local"] is True and "remote" not in rows["tiny-1b"]
