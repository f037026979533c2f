"""The documented commands as processes of their own, with a server on this machine in the hub's place."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kylin_gguf import gguf_info
from kylin_gguf.gguf_info import shards
from kylin_gguf.records import Settings
from tests import tiny_checkpoint as tiny
from tests.file_server import FileServer, serve
from tests.hub_server import COMMIT, publish
from tests.tiny_adapters import ADAPTERS
from tests.tiny_families import CASES

pytestmark = pytest.mark.native


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serve() as running:
        yield running


def _publish(server: FileServer, name: str, folder: Path) -> None:
    publish(server, name, {path.name: path.read_bytes() for path in folder.iterdir()})


def _start(settings: Settings, server: FileServer, folder: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "HF_ENDPOINT": server.url,
        "HF_HOME": str(folder / "hf"),
        "KYLIN_GGUF_CACHE_DIR": str(folder / "cache"),
        "KYLIN_GGUF_NATIVE_DIRS": os.pathsep.join(map(str, settings.native_dirs)),
    }
    environment.pop("HF_HUB_OFFLINE", None)
    command = [sys.executable, "-m", "kylin_gguf", *arguments]
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def _run(settings: Settings, server: FileServer, folder: Path, *arguments: str) -> str:
    with _start(settings, server, folder, *arguments) as process:
        said, complained = process.communicate()
    assert process.returncode == 0, complained
    return said


def test_a_repository_is_converted_by_its_name(
    settings: Settings, server: FileServer, tmp_path: Path
) -> None:
    """Over a connection that breaks twice, and after a run that was killed while it downloaded."""
    tiny.write(tmp_path / "made", shards=2)
    _publish(server, "owner/Tiny", tmp_path / "made")
    server.trouble_at, server.break_after, server.pause = "/blobs", [300_000, 200_000], 0.01
    with _start(settings, server, tmp_path, "convert", "owner/Tiny", "--quant", "Q4_0") as process:
        while not list(tmp_path.glob("cache/checkpoints/**/*.part")):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    server.pause = 0.0
    _run(settings, server, tmp_path, "convert", "owner/Tiny", "--quant", "Q4_0")
    _run(settings, server, tmp_path, "convert", str(tmp_path / "made"), "--quant", "Q4_0", "-o", "local.gguf")
    made = json.loads((tmp_path / "Tiny-Q4_0.gguf.json").read_text(encoding="utf-8"))
    assert (made["source"]["name"], made["source"]["revision"]) == ("owner/Tiny", COMMIT)
    ours, local = (gguf_info.read(tmp_path / name) for name in ("Tiny-Q4_0.gguf", "local.gguf"))
    assert [(t.name, t.type_name) for t in ours.tensors] == [(t.name, t.type_name) for t in local.tensors]


def test_the_result_may_be_several_files(settings: Settings, server: FileServer, tmp_path: Path) -> None:
    tiny.write(tmp_path / "made")
    _publish(server, "owner/Tiny", tmp_path / "made")
    options = ("--quant", "Q4_0", "--split-max-tensors", "8", "--card", "--json")
    said = _run(settings, server, tmp_path, "convert", "owner/Tiny", *options)
    done = json.loads(said.splitlines()[-1])
    first = tmp_path / "Tiny-Q4_0-00001-of-00003.gguf"
    assert (done["type"], tmp_path / done["path"]) == ("done", first)
    assert [path.name for path in shards.files(first)] == list(done["output"]["files"])
    assert first.with_name(f"{first.name}.md").is_file()


def test_an_adapter_needs_no_weights_of_its_base(
    settings: Settings, server: FileServer, tmp_path: Path
) -> None:
    CASES["llama"].write(tmp_path / "base")
    ADAPTERS["lora-llama"].write(tmp_path / "adapter", "owner/base")
    _publish(server, "owner/base", tmp_path / "base")
    _publish(server, "owner/adapter", tmp_path / "adapter")
    said = _run(settings, server, tmp_path, "convert-adapter", "owner/adapter")
    made = gguf_info.read(tmp_path / "adapter-LoRA-F32.gguf")
    assert f"{len(made.tensors) // 2} matrices" in said
    weights = hashlib.sha256((tmp_path / "base" / "model.safetensors").read_bytes()).hexdigest()
    ranges = [sent.get("Range", "") for _, path, sent in server.requests if weights in path]
    assert ranges and all(part and not part.endswith("-") for part in ranges)
