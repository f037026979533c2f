"""The card of a converted file, and its way to a server that speaks the hub's API."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest

from kylin_convert import card, manifest, publish
from kylin_convert.manifest import Manifest
from kylin_gguf import gguf_info
from kylin_gguf.errors import UploadFailed
from tests.tiny_model import write_model

ONE = {
    "perplexity": {"value": 9.5, "error": 0.25},
    "kl_divergence": {"value": 0.0321, "error": 0.0012},
    "same_top": {"value": 0.912, "error": 0.004},
}


def _manifest(source: str = "owner/Tiny-2M", **changes: Any) -> Manifest:
    values: dict[str, Any] = {
        "source": {"name": source, "kind": "checkpoint", "revision": "0123456789abcdef", "files": {}},
        "intermediate": "F16",
        "recipe": {"name": "Q4_K_M"},
        "pruning": None,
        "calibration": {"corpus": "built-in", "chunks": 32, "imatrix_sha256": "f" * 64},
        "tensors": {},
        "fallbacks": {},
        "quality": {language: {"source": ONE, "output": ONE} for language in ("zh", "en")},
        "tools": {},
        "seconds": {},
        "output": {"name": "tiny.gguf", "bytes": 1_500_000, "bits_per_weight": 4.9},
        "notices": (),
    }
    return Manifest(**{**values, **changes})


@pytest.fixture
def output(tmp_path: Path) -> Path:
    path = write_model(tmp_path / "tiny.gguf")
    _manifest().write(path)
    return path


def test_a_card_says_what_was_measured_in_both_languages(output: Path) -> None:
    text = card.write(_manifest(), gguf_info.read(output))
    assert "base_model: owner/Tiny-2M" in text
    assert "license: apache-2.0" in text
    for row in (
        "| Chinese | 9.50 ± 0.25 | 9.50 ± 0.25 | 0.0321 ± 0.0012 | 91.2 ± 0.4 % |",
        "| 英文 | 9.50 ± 0.25 | 9.50 ± 0.25 | 0.0321 ± 0.0012 | 91.2 ± 0.4 % |",
        "| tiny.gguf | Q4_K_M | 1.5 MB | 4.9 |",
    ):
        assert text.count(row) == (2 if row.startswith("| tiny") else 1)


def test_a_card_says_that_blocks_are_missing(output: Path) -> None:
    assert "blocks" not in card.write(_manifest(), gguf_info.read(output))
    text = card.write(_manifest(pruning={"blocks": 30, "removed": [14, 17]}), gguf_info.read(output))
    assert "2 of its 30 blocks were cut (from 0: 14, 17)." in text
    assert "已剪去 30 个块中的 2 个（从 0 起编号：14, 17）" in text


def test_a_card_names_no_folder_of_this_machine(output: Path) -> None:
    text = card.write(
        _manifest("/home/someone/Tiny-2M", calibration=None, quality={}), gguf_info.read(output)
    )
    assert "/home" not in text
    assert "base_model" not in text
    assert "Calibrated" not in text


class _Hub(BaseHTTPRequestHandler):
    """As much of the hub as a commit of small files takes."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        seen: list[tuple[str, bytes]] = self.server.seen  # type: ignore[attr-defined]
        seen.append((self.path, body))
        if self.headers["Authorization"] != "Bearer hf_known":
            self._answer(401, {"error": "Invalid username or password."})
        elif self.path.endswith("/preupload/main"):
            files = [file["path"] for file in json.loads(body)["files"]]
            modes = [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in files]
            self._answer(200, {"files": modes})
        elif self.path.endswith("/commit/main"):
            address = f"http://{self.headers['Host']}/owner/tiny/commit/c0"
            self._answer(200, {"success": True, "commitOid": "c0", "commitUrl": address})
        else:  # making the repository, and checking the card's head
            address = f"http://{self.headers['Host']}/owner/tiny"
            self._answer(200, {"url": address, "errors": [], "warnings": []})

    def _answer(self, status: int, value: dict[str, Any]) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, bytes]]]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    requests: list[tuple[str, bytes]] = []
    server.seen = requests  # type: ignore[attr-defined]
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr("huggingface_hub.hf_api.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "hf_known")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield requests
    server.shutdown()
    thread.join()
    server.server_close()


def test_file_manifest_and_card_go_up_in_one_commit(output: Path, seen: list[tuple[str, bytes]]) -> None:
    assert publish.upload(output, _manifest(), "owner/tiny").endswith("/owner/tiny/commit/c0")
    made = next(json.loads(body) for path, body in seen if path == "/api/repos/create")
    assert made["visibility"] == "private"
    (commit,) = (body for path, body in seen if path == "/api/models/owner/tiny/commit/main")
    lines = [json.loads(line) for line in commit.splitlines()]
    files = {
        line["value"]["path"]: base64.b64decode(line["value"]["content"])
        for line in lines
        if line["key"] == "file"
    }
    assert files.keys() == {"README.md", "tiny.gguf", "tiny.gguf.json"}
    assert files["tiny.gguf"] == output.read_bytes()
    assert files["tiny.gguf.json"] == manifest.path_for(output).read_bytes()
    assert "# Tiny Q4_K_M" in files["README.md"].decode()


def test_a_refusal_leaves_the_file(
    output: Path, seen: list[tuple[str, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_stranger")
    with pytest.raises(UploadFailed, match="owner/tiny") as caught:
        publish.upload(output, _manifest(), "owner/tiny")
    assert "401" in caught.value.reason or "Invalid" in caught.value.reason
    assert output.is_file()
    with pytest.raises(UploadFailed):
        publish.upload(output, _manifest(), "no/such/name")
