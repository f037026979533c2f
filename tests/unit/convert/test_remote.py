"""The path that a hub id takes, against a server on this machine that answers as the hubs do."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from kylin_convert import remote
from kylin_convert.remote import Reference, outline
from kylin_convert.source import Source, open_source
from kylin_convert.work import locked_directory
from kylin_gguf import config
from kylin_gguf.errors import BadCheckpoint, Busy, ChecksumMismatch, NoSpace, NotACheckpoint, SourceFailed
from kylin_gguf.records import Progress, Settings, no_progress
from kylin_gguf.sources import base, http, modelscope
from tests import tiny_checkpoint as tiny
from tests.file_server import FileServer, serve
from tests.hub_server import COMMIT, announce, publish

NAME = "owner/model"
API = f"/api/models/{NAME}"
WEIGHTS = "model-00001-of-00002.safetensors"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return config.load({"cache_dir": tmp_path / "cache", "models_dir": tmp_path / "models"})


@pytest.fixture
def files(tmp_path: Path) -> dict[str, bytes]:
    """A repository: a checkpoint, and what no conversion reads."""
    tiny.write(tmp_path / "made", shards=2)
    found = {path.name: path.read_bytes() for path in (tmp_path / "made").iterdir()}
    return {**found, "pytorch_model.bin": b"pickle", "onnx/config.json": b"{}", "picture.png": b"png"}


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serve() as running:
        yield running


@pytest.fixture
def hub(
    server: FileServer, files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> FileServer:
    """The server in Hugging Face's place; weights are kept elsewhere and redirected to."""
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    publish(server, NAME, files)
    return server


def blob(files: dict[str, bytes], name: str = WEIGHTS) -> str:
    return f"/blobs/{hashlib.sha256(files[name]).hexdigest()}"


def downloads(server: FileServer) -> list[str]:
    """Return the paths that were asked for as a whole or from somewhere on; headers have an end."""
    got = [(path, headers.get("range", "-")) for command, path, headers in lower(server) if command == "GET"]
    return [path for path, part in got if not path.startswith("/api") and part.endswith("-")]


def open_it(settings: Settings, text: str = NAME) -> Source:
    return open_source(text, settings, no_progress)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Qwen/Qwen3-0.6B", Reference("hf", "Qwen/Qwen3-0.6B", "")),
        ("hf:a/b@refs/pr/1", Reference("hf", "a/b", "refs/pr/1")),
        ("modelscope:a/b@v1", Reference("modelscope", "a/b", "v1")),
        ("a/b/c", None),
        ("../x", None),
        ("a/b@../../x", None),
        ("qwen3-0.6b", None),
        ("a/", None),
        ("ftp:a/b", None),
    ],
)
def test_names_of_repositories(text: str, expected: Reference | None) -> None:
    assert remote.parse(text) == expected


def test_a_repository_becomes_a_source(hub: FileServer, settings: Settings) -> None:
    events: list[Progress] = []
    source = open_source(NAME, settings, events.append)
    assert (source.name, source.revision, source.kind) == (NAME, COMMIT, "checkpoint")
    done = [event.done for event in events]
    assert done == sorted(done)
    assert events[-1].done == events[-1].total == source.size
    asked = " ".join(downloads(hub))
    assert not any(name in asked for name in ("onnx", "png", ".bin"))


@pytest.mark.parametrize("revision", ["main", "v1.0"])
def test_a_revision_is_asked_for(hub: FileServer, settings: Settings, revision: str) -> None:
    assert open_it(settings, f"{NAME}@{revision}").revision == COMMIT
    assert hub.requests[0][1].startswith(f"{API}/revision/{revision}")


def test_nothing_is_downloaded_twice(hub: FileServer, settings: Settings) -> None:
    open_it(settings)
    hub.requests.clear()
    open_it(settings)
    assert downloads(hub) == []


def test_what_huggingface_hub_has_is_not_downloaded(
    hub: FileServer, settings: Settings, files: dict[str, bytes], tmp_path: Path
) -> None:
    snapshot = tmp_path / "hf" / "models--owner--model" / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (snapshot / WEIGHTS).write_bytes(files[WEIGHTS])
    open_it(settings)
    assert blob(files) not in downloads(hub)


def test_the_token_is_sent_to_the_hub_and_not_to_where_it_redirects(
    hub: FileServer, settings: Settings, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with serve() as elsewhere:
        path = f"/{NAME}/resolve/{COMMIT}/{WEIGHTS}"
        hub.redirects[path] = f"{elsewhere.url}{blob(files)}".replace("127.0.0.1", "localhost")
        elsewhere.files[blob(files)] = files[WEIGHTS]
        open_it(settings)
        assert all(headers.get("authorization") == "Bearer hf_secret" for _, _, headers in lower(hub))
        assert {headers.get("authorization") for _, _, headers in lower(elsewhere)} == {None}


def lower(server: FileServer) -> list[tuple[str, str, dict[str, str]]]:
    return [(c, p, {name.lower(): value for name, value in h.items()}) for c, p, h in server.requests]


def test_a_broken_connection_is_resumed(hub: FileServer, settings: Settings, files: dict[str, bytes]) -> None:
    size = len(files[WEIGHTS])
    hub.trouble_at, hub.break_after = blob(files), [size // 2]
    open_it(settings)
    asked = [headers.get("range", "") for _, path, headers in lower(hub) if path == blob(files)]
    ranges = [part for part in asked if part.endswith("-")]
    assert ranges == [f"bytes={size // 2}-"]


def test_an_interrupted_download_goes_on_where_it_was(
    hub: FileServer, settings: Settings, files: dict[str, bytes]
) -> None:
    half = len(files[WEIGHTS]) // 2

    def interrupt(event: Progress) -> None:
        if half < event.done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_source(NAME, settings, interrupt)
    hub.requests.clear()
    assert open_it(settings).kind == "checkpoint"
    assert not any(path.endswith("config.json") for path in downloads(hub))


def test_a_file_that_was_only_not_compared_yet_is_not_downloaded_again(
    hub: FileServer, settings: Settings, files: dict[str, bytes]
) -> None:
    folder = settings.cache_dir / "checkpoints" / "hf" / "owner--model" / COMMIT
    folder.mkdir(parents=True)
    (folder / f".{WEIGHTS}.unverified").write_bytes(files[WEIGHTS])
    open_it(settings)
    assert blob(files) not in downloads(hub)


def test_what_a_branch_was_before_is_deleted(
    hub: FileServer, settings: Settings, files: dict[str, bytes]
) -> None:
    root = settings.cache_dir / "checkpoints" / "hf" / "owner--model"
    (root / "0ld").mkdir(parents=True)
    (root / "a-tag").mkdir()
    (root / "revision-v0").write_text("a-tag", "utf-8")
    open_it(settings)
    assert {path.name for path in root.iterdir() if path.is_dir()} == {COMMIT, "a-tag"}


def test_what_cannot_be_converted_is_refused_before_its_weights_are_downloaded(
    hub: FileServer, settings: Settings, files: dict[str, bytes]
) -> None:
    stated = json.loads(files["config.json"])
    other = json.dumps({**stated, "hidden_size": 128, "head_dim": 64}).encode()
    siblings = [{"rfilename": name, "size": len(content)} for name, content in files.items()]
    announce(
        hub, NAME, [{**s, "size": len(other)} if s["rfilename"] == "config.json" else s for s in siblings]
    )
    hub.files[f"/{NAME}/resolve/{COMMIT}/config.json"] = other
    with pytest.raises(BadCheckpoint, match=r"config\.json says"):
        open_it(settings)
    assert not any(path.endswith("safetensors") or "blobs" in path for path in downloads(hub))


def test_a_plan_needs_no_weights(hub: FileServer, settings: Settings, files: dict[str, bytes]) -> None:
    planned = open_source(NAME, settings, no_progress, outline=True)
    assert blob(files) not in downloads(hub)
    sizes = planned.size, planned.unquantised_bytes("F16")
    real = open_it(settings)
    assert sizes == (real.size, real.unquantised_bytes("F16"))
    assert not any("outline" in path.name for path in real.path.parent.iterdir())


@pytest.mark.parametrize("ranges", [True, False])
def test_a_header_longer_than_expected(
    hub: FileServer, settings: Settings, monkeypatch: pytest.MonkeyPatch, ranges: bool
) -> None:
    monkeypatch.setattr(outline, "_GUESS", 16)
    hub.ranges = ranges
    assert open_source(NAME, settings, no_progress, outline=True).kind == "checkpoint"


def test_weights_that_are_something_else(
    hub: FileServer, settings: Settings, files: dict[str, bytes]
) -> None:
    hub.files[blob(files)] = b"\xff" * 64
    with pytest.raises(SourceFailed, match="not a safetensors file"):
        open_it(settings)


def test_two_do_not_download_the_same(hub: FileServer, settings: Settings) -> None:
    root = settings.cache_dir / "checkpoints" / "hf"
    with locked_directory(root, "owner--model"), pytest.raises(Busy):
        open_it(settings)


def test_a_connection_without_a_byte_is_given_up_and_resumed(
    hub: FileServer, settings: Settings, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "_READ_SECONDS", 0.2)
    hub.trouble_at, hub.stall_after = blob(files), [10]
    assert open_it(settings).kind == "checkpoint"


def test_a_slow_connection_is_waited_for(
    hub: FileServer, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "_READ_SECONDS", 1.0)
    hub.pause = 0.001
    assert open_it(settings).kind == "checkpoint"


def test_other_bytes_than_the_hub_promises_are_refused(
    hub: FileServer, settings: Settings, files: dict[str, bytes]
) -> None:
    hub.files[blob(files)] = files[WEIGHTS][:-1] + bytes([files[WEIGHTS][-1] ^ 1])
    with pytest.raises(ChecksumMismatch):
        open_it(settings)
    hub.files[blob(files)] = files[WEIGHTS]
    assert open_it(settings).kind == "checkpoint"


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        (404, "RepoNotFound", "no such repository"),
        (404, "RevisionNotFound", "no such revision"),
        (403, "GatedRepo", "licence must be accepted"),
        (500, "", "500"),
    ],
)
def test_a_refusal_is_one_sentence(
    hub: FileServer, settings: Settings, status: int, code: str, reason: str
) -> None:
    for path in (f"{API}?blobs=true", f"{API}?blobs=True"):
        hub.statuses[path], hub.refusals[path] = status, code
    with pytest.raises(SourceFailed, match=reason) as caught:
        open_it(settings)
    assert "\n" not in str(caught.value)


def test_without_a_connection_the_last_copy_is_used(
    hub: FileServer, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_it(settings)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    assert open_it(settings).revision == COMMIT
    with pytest.raises(SourceFailed, match="cannot be reached"):
        open_it(settings, f"{NAME}@v1.0")


def test_without_a_connection_huggingface_hubs_copy_is_used(
    hub: FileServer,
    settings: Settings,
    files: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    repository = tmp_path / "hf" / "models--owner--model"
    snapshot = repository / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT, "utf-8")
    for name, content in files.items():
        if "/" not in name:
            (snapshot / name).write_bytes(content)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    assert open_it(settings).revision == COMMIT


def test_there_is_no_room(hub: FileServer, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(base.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(NoSpace):
        open_it(settings)
    assert downloads(hub) == []


@pytest.mark.parametrize("name", ["../../secret.json", "/etc/passwd.json", "a/../../b.json"])
def test_a_listed_name_cannot_lead_out_of_the_folder(hub: FileServer, settings: Settings, name: str) -> None:
    announce(hub, NAME, [{"rfilename": name, "size": 1}])
    with pytest.raises(SourceFailed, match="lists a file named"):
        open_it(settings)


def test_a_repository_without_weights(hub: FileServer, settings: Settings) -> None:
    announce(hub, NAME, [{"rfilename": "config.json", "size": 1}, {"rfilename": "model.onnx", "size": 1}])
    with pytest.raises(NotACheckpoint, match="no weights"):
        open_it(settings)


def modelscope_answer(files: dict[str, bytes]) -> bytes:
    entries: list[dict[str, Any]] = [{"Path": "onnx", "Type": "tree", "Size": 0}]
    for name, content in files.items():
        sha = hashlib.sha256(content).hexdigest()
        entries.append({"Path": name, "Type": "blob", "Size": len(content), "Sha256": sha})
    return json.dumps({"Code": 200, "Data": {"Files": entries}}).encode()


@pytest.fixture
def chinese_hub(server: FileServer, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> FileServer:
    """The server in ModelScope's place."""
    monkeypatch.setattr(modelscope, "ENDPOINT", server.url)
    listing = f"/api/v1/models/{NAME}/repo/files?Revision=master&Recursive=true"
    server.files[listing] = modelscope_answer(files)
    for name, content in files.items():
        server.files[f"/models/{NAME}/resolve/master/{name}"] = content
    return server


def test_modelscope(chinese_hub: FileServer, settings: Settings) -> None:
    source = open_it(settings, f"modelscope:{NAME}")
    assert source.kind == "checkpoint"
    assert source.revision.startswith("master-")


def test_a_changed_branch_of_modelscope_is_another_revision(
    chinese_hub: FileServer, settings: Settings, files: dict[str, bytes]
) -> None:
    first = open_it(settings, f"modelscope:{NAME}").revision
    changed = {**files, "README.md": b"# New"}
    listing = f"/api/v1/models/{NAME}/repo/files?Revision=master&Recursive=true"
    chinese_hub.files[listing] = modelscope_answer(changed)
    chinese_hub.files[f"/models/{NAME}/resolve/master/README.md"] = b"# New"
    assert open_it(settings, f"modelscope:{NAME}").revision != first


@pytest.mark.parametrize(
    "answer", [b"{}", b"[]", b"no", b'{"Data": {"Files": [{"Type": "blob"}]}}', b'{"Message": "gone"}']
)
def test_an_answer_of_modelscope_that_lists_nothing(
    chinese_hub: FileServer, settings: Settings, answer: bytes
) -> None:
    listing = f"/api/v1/models/{NAME}/repo/files?Revision=master&Recursive=true"
    chinese_hub.files[listing] = answer
    with pytest.raises(SourceFailed):
        open_it(settings, f"modelscope:{NAME}")
