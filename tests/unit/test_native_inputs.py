"""native/llama_build/inputs.py: pinned files, from wherever they come, and nothing else."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

from llama_build import inputs
from llama_build.checkout import Tree
from llama_build.steps import BuildFailed

ROOT = Path(__file__).parents[2]
_CONTROL = """Package: thing
Version: 1
Architecture: all
Maintainer: nobody <nobody@localhost>
Description: a thing
"""
_PATH = "pool/main/t/thing/thing_1_all.deb"


def a_wheel() -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        tool = zipfile.ZipInfo("nvidia/bin/nvcc")
        tool.external_attr = 0o100755 << 16
        archive.writestr(tool, "#!/bin/sh\n")
        archive.writestr("nvidia/lib/libcudart.so.13", "a library")
    return held.getvalue()


def a_package(directory: Path) -> bytes:
    tree = directory / "package"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN" / "control").write_text(_CONTROL)
    (tree / "usr").mkdir()
    (tree / "usr" / "thing.h").write_text("int thing;\n")
    built = directory / "thing.deb"
    subprocess.run(
        ["dpkg-deb", "--build", "--root-owner-group", tree, built], check=True, capture_output=True
    )
    return built.read_bytes()


def checkout(directory: Path, **pinned: dict[str, Any]) -> Tree:
    native = directory / "checkout" / "native"
    native.mkdir(parents=True)
    (native / "requirements.txt").write_bytes((ROOT / "native" / "requirements.txt").read_bytes())
    (native / "inputs.json").write_text(json.dumps({"thing": {"why": "Because.", **pinned}}))
    return Tree(native.parent)


class Archive:
    """Mirrors of Debian's archive, behind a stand-in for apt's fetcher that verifies nothing."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked = directory / "asked"
        self.holds = directory / "mirrors"
        helper = directory / "apt-helper"
        helper.write_text(
            f"""#!/bin/sh
echo "$2" >> {self.asked}
cp "{self.holds}/${{2#http*://}}" "$3" || {{ echo "E: 404 Not Found" >&2; exit 100; }}
"""
        )
        helper.chmod(0o755)
        monkeypatch.setattr(inputs, "_APT_HELPER", str(helper))
        monkeypatch.delenv(inputs.MIRROR_VARIABLE, raising=False)

    def put(self, mirror: str, content: bytes) -> None:
        path = self.holds / mirror.partition("://")[2] / _PATH
        path.parent.mkdir(parents=True)
        path.write_bytes(content)


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Archive:
    return Archive(tmp_path, monkeypatch)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("mirror", [inputs._MIRROR, inputs._ARCHIVE])
def test_a_package_comes_from_the_mirror_or_from_where_it_never_vanishes(
    archive: Archive, tmp_path: Path, mirror: str
) -> None:
    content = a_package(tmp_path)
    archive.put(mirror, content)
    tree = checkout(tmp_path, debian={_PATH: sha256(content)})
    for _ in range(2):
        inputs.provide(tree, "thing")
    assert (inputs.directory(tree, "thing") / "usr" / "thing.h").read_text() == "int thing;\n"
    assert archive.asked.read_text().splitlines()[-1] == f"{mirror}/{_PATH}"
    assert inputs.fetch(tree, "thing") == [tree.build / "download" / "thing_1_all.deb"]


def test_the_mirror_can_be_chosen(archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = a_package(tmp_path)
    archive.put("http://mirror.example/debian", content)
    monkeypatch.setenv(inputs.MIRROR_VARIABLE, "http://mirror.example/debian")
    inputs.provide(checkout(tmp_path, debian={_PATH: sha256(content)}), "thing")
    assert archive.asked.read_text() == f"http://mirror.example/debian/{_PATH}\n"


def test_a_file_with_other_bytes_is_refused_and_not_kept(archive: Archive, tmp_path: Path) -> None:
    archive.put(inputs._MIRROR, b"something else")
    tree = checkout(tmp_path, debian={_PATH: "0" * 64})
    with pytest.raises(BuildFailed, match=rf"no mirror delivered {_PATH} with SHA-256 0{{64}}: .*404"):
        inputs.provide(tree, "thing")
    assert not (tree.build / "download" / "thing_1_all.deb").exists()
    assert not inputs.directory(tree, "thing").exists()


def test_a_wheel_is_unpacked_whole_with_its_executables(tmp_path: Path) -> None:
    content = a_wheel()
    tree = checkout(tmp_path, wheels={"thing-1-py3-none-any.whl": sha256(content)})
    (tree.build / "download").mkdir(parents=True)
    (tree.build / "download" / "thing-1-py3-none-any.whl").write_bytes(content)
    inputs.provide(tree, "thing")
    unpacked = inputs.directory(tree, "thing") / "nvidia"
    assert (unpacked / "bin" / "nvcc").stat().st_mode & 0o111
    assert (unpacked / "lib" / "libcudart.so.13").read_text() == "a library"


def test_a_wheel_that_pip_delivers_with_other_bytes_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = checkout(tmp_path, wheels={"thing-1-py3-none-any.whl": "0" * 64})

    def deliver_garbage(command: list[str]) -> None:
        assert "--require-hashes" in command
        (tree.build / "download").mkdir(parents=True)
        (tree.build / "download" / "thing-1-py3-none-any.whl").write_bytes(a_wheel())

    monkeypatch.setattr(inputs, "call", deliver_garbage)
    with pytest.raises(BuildFailed, match="pip did not deliver thing-1"):
        inputs.fetch(tree, "thing")


def test_every_input_says_why_and_is_pinned() -> None:
    tree = Tree(ROOT)
    for name in json.loads((ROOT / "native" / "inputs.json").read_text(encoding="utf-8")):
        pins = inputs.pinned(tree, name)
        assert len(pins["why"].split()) > 10
        digests = {**pins.get("debian", {}), **pins.get("wheels", {})}
        assert digests
        assert all(len(bytes.fromhex(digest)) == 32 for digest in digests.values())


def test_an_unknown_input_is_refused() -> None:
    with pytest.raises(BuildFailed, match="no input 'absent'"):
        inputs.pinned(Tree(ROOT), "absent")
