"""native/build.py with a stand-in for CMake: what is built again, what is reused, what is left behind."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
_spec = importlib.util.spec_from_file_location("native_build", ROOT / "native" / "build.py")
assert _spec is not None and _spec.loader is not None
build = importlib.util.module_from_spec(_spec)
sys.modules["native_build"] = build
_spec.loader.exec_module(build)

# "Builds" whatever the preset's targets are, into the binary directory of preset cpu.
_CMAKE = """#!/bin/sh
echo "$@" >> {calls}
[ "$1" = --build ] || exit 0
[ -e {broken} ] && exit 2
mkdir -p ../build/cmake/cpu/bin && cd ../build/cmake/cpu/bin
touch libllama.so.0 libggml.so libggml-cpu-x64.so unrelated.txt
ln -sf libllama.so.0 libllama.so
for tool in bench imatrix perplexity quantize server tokenize; do touch llama-$tool; done
"""


class Desk:
    """A machine with a counting CMake and a settable compiler, and checkouts on it."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.directory = directory
        self._monkeypatch = monkeypatch
        self._calls = directory / "cmake-calls"
        self.broken = directory / "broken"
        self._script("cmake", _CMAKE.format(calls=self._calls, broken=self.broken))
        self.use_compiler("gcc 12.2.0")
        monkeypatch.setenv("PATH", f"{directory / 'bin'}:/usr/bin:/bin")
        monkeypatch.setenv("XDG_CACHE_HOME", str(directory / "cache"))
        for name in ("CC", "CXX", "CFLAGS", "CXXFLAGS", "LDFLAGS"):
            monkeypatch.delenv(name, raising=False)

    def _script(self, name: str, text: str) -> None:
        path = self.directory / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755)

    def use_compiler(self, version: str) -> None:
        for name in ("cc", "c++"):
            self._script(name, f"#!/bin/sh\necho '{version}'\n")

    def checkout(self, name: str) -> Any:
        """Return the tree of a new checkout whose source is unpacked already."""
        root = self.directory / name
        shutil.copytree(ROOT / "native", root / "native", ignore=shutil.ignore_patterns("__pycache__"))
        tree = build.Tree(root)
        tree.source.mkdir(parents=True)
        build.write_stamp(tree.source, {"sha256": tree.pin.sha256})
        return tree

    def builds(self) -> int:
        """Return how often CMake was told to build."""
        calls = self._calls.read_text(encoding="utf-8") if self._calls.exists() else ""
        return calls.count("--build")


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(tmp_path, monkeypatch)


def installed(tree: Any) -> set[str]:
    return {path.name for path in (tree.build / "native" / "cpu").iterdir()}


# --- The pin --------------------------------------------------------------------------------------


def test_the_bindings_and_the_libraries_are_pinned_to_one_version() -> None:
    pinned = build.Tree(ROOT).pin
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert re.search(r'"llama-cpp-python==([^"]+)"', project)[1] == pinned.version  # type: ignore[index]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name==1.0\n",
        "name==1.0 \\\n  --hash=sha256:abc\n",
        ("n==1 \\\n --hash=sha256:" + "0" * 64 + "\n") * 2,
    ],
)
def test_anything_but_one_full_pin_is_refused(text: str) -> None:
    with pytest.raises(build.BuildFailed, match="exactly one archive"):
        build.Pin.parse(text)


def test_an_archive_with_other_bytes_is_not_unpacked(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = desk.checkout("a")
    shutil.rmtree(tree.source)

    def deliver_garbage(command: list[str], **_: object) -> None:
        assert "--require-hashes" in command
        tree.archive.parent.mkdir(parents=True)
        tree.archive.write_bytes(b"not what was pinned")

    monkeypatch.setattr(build, "call", deliver_garbage)
    with pytest.raises(build.BuildFailed, match=tree.pin.sha256):
        build.unpack(tree)
    assert not tree.source.exists()


# --- The key --------------------------------------------------------------------------------------


def edit_presets(tree: Any, change: Callable[[dict[str, Any]], None]) -> None:
    path = tree.native / "CMakePresets.json"
    presets = json.loads(path.read_text(encoding="utf-8"))
    change(presets)
    path.write_text(json.dumps(presets), encoding="utf-8")


def set_option(presets: dict[str, Any], index: int) -> None:
    presets["configurePresets"][index]["cacheVariables"]["GGML_LTO"] = "ON"


@pytest.mark.parametrize(
    "change",
    [
        lambda desk, tree, patch: edit_presets(tree, lambda presets: set_option(presets, 0)),
        lambda desk, tree, patch: edit_presets(tree, lambda presets: set_option(presets, 1)),
        lambda desk, tree, patch: edit_presets(
            tree, lambda presets: presets["buildPresets"][0]["targets"].pop()
        ),
        lambda desk, tree, patch: (tree.native / "CMakeLists.txt").write_text("project(other)"),
        lambda desk, tree, patch: desk.use_compiler("gcc 14.2.0"),
        lambda desk, tree, patch: patch.setenv("CXXFLAGS", "-O1"),
        lambda desk, tree, patch: setattr(tree, "pin", build.Pin("n", "1", "0" * 64)),
        lambda desk, tree, patch: patch.setattr(build, "LAYOUT", build.LAYOUT + 1),
    ],
    ids=["inherited", "own", "targets", "superproject", "compiler", "flags", "archive", "layout"],
)
def test_whatever_changes_the_result_changes_the_key(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, change: Callable[..., None]
) -> None:
    tree = desk.checkout("a")
    before = build.ingredients(tree, "cpu")["key"]
    change(desk, tree, monkeypatch)
    assert build.ingredients(tree, "cpu")["key"] != before


def test_a_new_preset_does_not_change_the_key_of_another(desk: Desk) -> None:
    tree = desk.checkout("a")
    before = build.ingredients(tree, "cpu")["key"]
    edit_presets(
        tree, lambda presets: presets["configurePresets"].append({"name": "other", "inherits": "base"})
    )
    assert build.ingredients(tree, "cpu")["key"] == before


def test_an_unknown_preset_is_refused_with_the_known_ones(desk: Desk) -> None:
    with pytest.raises(build.BuildFailed, match=r"no preset 'gpu'; known: .*cpu"):
        build.ingredients(desk.checkout("a"), "gpu")


# --- The libraries --------------------------------------------------------------------------------


def test_libraries_and_tools_are_installed_flat_with_their_links(desk: Desk) -> None:
    tree = desk.checkout("a")
    build.libraries(tree, "cpu")
    names = installed(tree)
    assert {"libllama.so", "libggml-cpu-x64.so", "llama-quantize", build.STAMP} <= names
    assert "unrelated.txt" not in names
    assert (tree.build / "native" / "cpu" / "libllama.so").readlink() == Path("libllama.so.0")


def test_a_second_run_builds_nothing(desk: Desk) -> None:
    tree = desk.checkout("a")
    build.libraries(tree, "cpu")
    build.libraries(tree, "cpu")
    assert desk.builds() == 1


def test_another_checkout_takes_the_finished_build(desk: Desk) -> None:
    first, second = desk.checkout("a"), desk.checkout("b")
    build.libraries(first, "cpu")
    build.libraries(second, "cpu")
    assert desk.builds() == 1
    assert installed(first) == installed(second)


def test_another_compiler_builds_anew(desk: Desk) -> None:
    tree = desk.checkout("a")
    build.libraries(tree, "cpu")
    desk.use_compiler("gcc 14.2.0")
    build.libraries(tree, "cpu")
    assert desk.builds() == 2


def test_a_failed_build_leaves_the_last_one_in_place(desk: Desk) -> None:
    tree = desk.checkout("a")
    build.libraries(tree, "cpu")
    before = installed(tree)
    desk.use_compiler("gcc 14.2.0")
    desk.broken.touch()
    with pytest.raises(build.BuildFailed):
        build.libraries(tree, "cpu")
    assert installed(tree) == before
    desk.broken.unlink()
    build.libraries(tree, "cpu")
    assert build.read_stamp(tree.build / "native" / "cpu")["compilers"] == ["gcc 14.2.0"] * 2


def test_a_build_that_lacks_a_tool_is_not_installed(desk: Desk) -> None:
    tree = desk.checkout("a")
    edit_presets(tree, lambda presets: presets["buildPresets"][0]["targets"].append("llama-absent"))
    with pytest.raises(build.BuildFailed, match="llama-absent"):
        build.libraries(tree, "cpu")
    assert not (tree.build / "native" / "cpu").exists()
    assert not any(path.is_dir() for path in (desk.directory / "cache" / "kylin-gguf" / "native").iterdir())


def test_leftovers_of_an_older_build_are_not_installed(desk: Desk) -> None:
    tree = desk.checkout("a")
    build.libraries(tree, "cpu")
    (tree.build / "cmake" / "cpu" / "bin" / "libggml-old.so").touch()
    desk.use_compiler("gcc 14.2.0")
    build.libraries(tree, "cpu")
    assert "libggml-old.so" not in installed(tree)


def test_failures_are_one_sentence_and_a_status(desk: Desk, capfd: pytest.CaptureFixture[str]) -> None:
    assert build.main(["libraries", "no-such-preset"]) == 1
    assert "native: there is no preset 'no-such-preset'" in capfd.readouterr().err
