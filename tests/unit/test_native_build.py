"""native/build.py with a stand-in for CMake: what is built again, what is reused, what is left behind."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import build
from llama_build import patches, presets, source
from llama_build.checkout import Pin, Tree
from llama_build.libraries import build_environment, libraries
from llama_build.presets import ingredients
from llama_build.steps import STAMP, BuildFailed, digest, read_stamp, write_stamp

ROOT = Path(__file__).parents[2]

# "Builds" whatever the preset's targets are, into its binary directory.
_CMAKE = """#!/bin/sh
echo "$@" >> {calls}
[ "$1" = --build ] || exit 0
[ -e {broken} ] && exit 2
mkdir -p ../build/cmake/$3/bin && cd ../build/cmake/$3/bin
touch libllama.so.0 libggml.so libggml-base.so libggml-cpu-x64.so libggml-vulkan.so unrelated.txt
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

    def use_compiler(self, version: str, names: tuple[str, str] = ("cc", "c++")) -> None:
        for name in names:
            self._script(name, f"#!/bin/sh\necho '{version}'\n")

    def checkout(self, name: str) -> Tree:
        """Return the tree of a new checkout whose source is unpacked already."""
        root = self.directory / name
        shutil.copytree(ROOT / "native", root / "native", ignore=shutil.ignore_patterns("__pycache__"))
        tree = Tree(root)
        tree.source.mkdir(parents=True)
        made_from = {"sha256": tree.pin.sha256, "patches": patches.digests(tree.native)}
        write_stamp(tree.source, {**made_from, "patched": {}})
        return tree

    def builds(self) -> int:
        """Return how often CMake was told to build."""
        calls = self._calls.read_text(encoding="utf-8") if self._calls.exists() else ""
        return calls.count("--build")


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(tmp_path, monkeypatch)


def installed(tree: Tree) -> set[str]:
    return {path.name for path in (tree.build / "native" / "cpu").iterdir()}


# --- The pin --------------------------------------------------------------------------------------


def test_the_bindings_and_the_libraries_are_pinned_to_one_version() -> None:
    pinned = Tree(ROOT).pin
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
    with pytest.raises(BuildFailed, match="exactly one archive"):
        Pin.parse(text)


def test_an_archive_with_other_bytes_is_not_unpacked(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = desk.checkout("a")
    shutil.rmtree(tree.source)

    def deliver_garbage(command: list[str], **_: object) -> None:
        assert "--require-hashes" in command
        tree.archive.parent.mkdir(parents=True)
        tree.archive.write_bytes(b"not what was pinned")

    monkeypatch.setattr(source, "call", deliver_garbage)
    with pytest.raises(BuildFailed, match=tree.pin.sha256):
        source.unpack(tree)
    assert not tree.source.exists()


# --- The patches ----------------------------------------------------------------------------------

_PATCH = """Subject: [PATCH] say it louder
Forwarded: not-needed

Because.
---
diff --git a/said.txt b/said.txt
--- a/said.txt
+++ b/said.txt
@@ -1,3 +1,3 @@
 one
-{old}
+{new}
 three
"""


class Patched:
    """A llama.cpp tree of one file, and a ``native`` folder whose patches are the case's."""

    def __init__(self, directory: Path) -> None:
        self.native = directory / "native"
        self.tree = directory / "llama.cpp"
        self.file = self.tree / "said.txt"
        (self.native / "patches").mkdir(parents=True)
        self.tree.mkdir()
        self.file.write_text("one\ntwo\nthree\n", encoding="utf-8")

    def add(self, name: str, old: str, new: str) -> None:
        text = _PATCH.format(old=old, new=new)
        (self.native / "patches" / name).write_text(text, encoding="utf-8")


@pytest.fixture
def patched(tmp_path: Path) -> Patched:
    return Patched(tmp_path)


def test_patches_are_applied_in_the_order_of_their_names(patched: Patched) -> None:
    patched.add("0002-second.patch", "TWO", "TWO!")
    patched.add("0001-first.patch", "two", "TWO")
    assert patches.apply(patched.native, patched.tree) == {"said.txt": digest(patched.file)}
    assert patched.file.read_text(encoding="utf-8") == "one\nTWO!\nthree\n"
    assert [path.name for path in patched.tree.iterdir()] == ["said.txt"]


@pytest.mark.parametrize("text", ["one\nzwei\nthree\n", "one\ntwo\nfour\n", "one\nTWO\nthree\n", ""])
def test_a_patch_that_does_not_fit_or_is_in_already_is_refused(patched: Patched, text: str) -> None:
    patched.add("0001-first.patch", "two", "TWO")
    patched.file.write_text(text, encoding="utf-8")
    with pytest.raises(BuildFailed, match=r"0001-first\.patch does not fit the pinned source, or is in it"):
        patches.apply(patched.native, patched.tree)


def test_a_source_that_others_changed_is_refused(patched: Patched) -> None:
    patched.add("0001-first.patch", "two", "TWO")
    left = patches.apply(patched.native, patched.tree)
    patches.check(patched.tree, left)
    patched.file.write_text("one\nTWO, by hand\nthree\n", encoding="utf-8")
    with pytest.raises(BuildFailed, match=r"said\.txt .* was changed after our patches were applied"):
        patches.check(patched.tree, left)


def test_the_source_is_unpacked_patched_and_unpacked_anew_for_another_patch(desk: Desk) -> None:
    tree = desk.checkout("a")
    shutil.rmtree(tree.native / "patches")
    (tree.native / "patches").mkdir()
    content = desk.directory / "content" / tree.pin.stem / "vendor" / "llama.cpp"
    content.mkdir(parents=True)
    (content / "said.txt").write_text("one\ntwo\nthree\n", encoding="utf-8")
    tree.archive.parent.mkdir(parents=True)
    subprocess.run(["tar", "-czf", tree.archive, "-C", desk.directory / "content", tree.pin.stem], check=True)
    tree.pin = Pin(tree.pin.name, tree.pin.version, digest(tree.archive))
    for louder in ("TWO", "TWO!"):
        text = _PATCH.format(old="two", new=louder)
        (tree.native / "patches" / "0001-first.patch").write_text(text, encoding="utf-8")
        source.unpack(tree)
        assert louder in (tree.llama_cpp / "said.txt").read_text(encoding="utf-8").splitlines()
    (tree.llama_cpp / "said.txt").write_text("by hand", encoding="utf-8")
    with pytest.raises(BuildFailed, match=r"said\.txt"):
        source.unpack(tree)


@pytest.mark.parametrize("path", patches.series(ROOT / "native"), ids=lambda path: path.name)
def test_every_patch_says_why_it_is_there_and_what_upstream_knows(path: Path) -> None:
    header = path.read_text(encoding="utf-8").partition("\n---\n")[0]
    assert re.match(r"Subject: \[PATCH\] \S", header)
    assert re.search(r"^Forwarded: (no|not-needed|https://\S+)$", header, re.M)
    assert len(header.partition("\n\n")[2].split()) > 20


# --- The key --------------------------------------------------------------------------------------


def edit_presets(tree: Tree, change: Callable[[dict[str, Any]], None]) -> None:
    path = tree.native / "CMakePresets.json"
    found = json.loads(path.read_text(encoding="utf-8"))
    change(found)
    path.write_text(json.dumps(found), encoding="utf-8")


def set_option(found: dict[str, Any], index: int) -> None:
    found["configurePresets"][index]["cacheVariables"]["GGML_LTO"] = "ON"


@pytest.mark.parametrize(
    "change",
    [
        lambda desk, tree, patch: edit_presets(tree, lambda found: set_option(found, 0)),
        lambda desk, tree, patch: edit_presets(tree, lambda found: set_option(found, 1)),
        lambda desk, tree, patch: edit_presets(tree, lambda found: found["buildPresets"][0]["targets"].pop()),
        lambda desk, tree, patch: (tree.native / "CMakeLists.txt").write_text("project(other)"),
        lambda desk, tree, patch: (tree.native / "patches" / "9999-more.patch").write_text("more"),
        lambda desk, tree, patch: desk.use_compiler("gcc 14.2.0"),
        lambda desk, tree, patch: patch.setenv("CXXFLAGS", "-O1"),
        lambda desk, tree, patch: setattr(tree, "pin", Pin("n", "1", "0" * 64)),
        lambda desk, tree, patch: patch.setattr(presets, "LAYOUT", presets.LAYOUT + 1),
    ],
    ids=["inherited", "own", "targets", "superproject", "patch", "compiler", "flags", "archive", "layout"],
)
def test_whatever_changes_the_result_changes_the_key(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, change: Callable[..., None]
) -> None:
    tree = desk.checkout("a")
    before = ingredients(tree, "cpu")["key"]
    change(desk, tree, monkeypatch)
    assert ingredients(tree, "cpu")["key"] != before


def test_a_flag_that_names_the_checkout_does_not_tell_checkouts_apart(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = set()
    for tree in (desk.checkout("a"), desk.checkout("b")):
        monkeypatch.setenv("CXXFLAGS", f"-O2 -ffile-prefix-map={tree.root}=.")
        keys.add(ingredients(tree, "cpu")["key"])
    assert len(keys) == 1


def test_a_cross_build_is_keyed_by_its_own_compiler(desk: Desk) -> None:
    tree = desk.checkout("a")
    desk.use_compiler("clang 19.1.7", ("clang-19", "clang++-19"))
    before = ingredients(tree, "riscv64")
    assert before["compilers"] == ["clang 19.1.7"] * 2
    desk.use_compiler("gcc 14.2.0")
    assert ingredients(tree, "riscv64") == before
    desk.use_compiler("clang 19.1.8", ("clang-19", "clang++-19"))
    assert ingredients(tree, "riscv64")["key"] != before["key"]


def test_other_inputs_change_the_key_of_the_presets_that_use_them(desk: Desk) -> None:
    tree = desk.checkout("a")
    before = [ingredients(tree, preset)["key"] for preset in ("cpu", "vulkan")]
    path = tree.native / "inputs.json"
    path.write_text(path.read_text(encoding="utf-8").replace("libvulkan1", "libvulkan2"), encoding="utf-8")
    after = [ingredients(tree, preset)["key"] for preset in ("cpu", "vulkan")]
    assert [one == other for one, other in zip(before, after, strict=True)] == [True, False]


def test_a_new_preset_does_not_change_the_key_of_another(desk: Desk) -> None:
    tree = desk.checkout("a")
    before = ingredients(tree, "cpu")["key"]
    edit_presets(tree, lambda found: found["configurePresets"].append({"name": "other", "inherits": "base"}))
    assert ingredients(tree, "cpu")["key"] == before


def test_an_unknown_preset_is_refused_with_the_known_ones(desk: Desk) -> None:
    with pytest.raises(BuildFailed, match=r"no preset 'gpu'; known: .*cpu"):
        ingredients(desk.checkout("a"), "gpu")


# --- The libraries --------------------------------------------------------------------------------


def test_libraries_and_tools_are_installed_flat_with_their_links(desk: Desk) -> None:
    tree = desk.checkout("a")
    libraries(tree, "cpu")
    names = installed(tree)
    assert {"libllama.so", "libggml-cpu-x64.so", "llama-quantize", STAMP} <= names
    assert "unrelated.txt" not in names
    assert (tree.build / "native" / "cpu" / "libllama.so").readlink() == Path("libllama.so.0")


def test_of_a_plugin_only_the_plugin_is_installed(desk: Desk) -> None:
    tree = desk.checkout("a")
    (tree.native / "inputs.json").write_text('{"vulkan": {"why": "nothing is needed here"}}')
    libraries(tree, "vulkan")
    assert {path.name for path in (tree.build / "native" / "vulkan").iterdir()} == {
        "libggml-vulkan.so",
        STAMP,
    }


def test_a_second_run_builds_nothing(desk: Desk) -> None:
    tree = desk.checkout("a")
    libraries(tree, "cpu")
    libraries(tree, "cpu")
    assert desk.builds() == 1


def test_another_checkout_takes_the_finished_build(desk: Desk) -> None:
    first, second = desk.checkout("a"), desk.checkout("b")
    libraries(first, "cpu")
    libraries(second, "cpu")
    assert desk.builds() == 1
    assert installed(first) == installed(second)


def test_ccache_leaves_paths_alone_that_flags_rename(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = desk.checkout("a")
    desk.use_compiler("ccache 4.7", ("ccache", "ccache"))
    monkeypatch.delenv("CCACHE_BASEDIR", raising=False)
    assert build_environment(tree)["CCACHE_BASEDIR"] == str(tree.root)
    monkeypatch.setenv("CXXFLAGS", f"-O2 -ffile-prefix-map={tree.root}=.")
    assert "CCACHE_BASEDIR" not in build_environment(tree)


def test_another_compiler_builds_anew(desk: Desk) -> None:
    tree = desk.checkout("a")
    libraries(tree, "cpu")
    desk.use_compiler("gcc 14.2.0")
    libraries(tree, "cpu")
    assert desk.builds() == 2


def test_a_failed_build_leaves_the_last_one_in_place(desk: Desk) -> None:
    tree = desk.checkout("a")
    libraries(tree, "cpu")
    before = installed(tree)
    desk.use_compiler("gcc 14.2.0")
    desk.broken.touch()
    with pytest.raises(BuildFailed):
        libraries(tree, "cpu")
    assert installed(tree) == before
    desk.broken.unlink()
    libraries(tree, "cpu")
    assert read_stamp(tree.build / "native" / "cpu")["compilers"] == ["gcc 14.2.0"] * 2


def test_a_build_that_lacks_a_tool_is_not_installed(desk: Desk) -> None:
    tree = desk.checkout("a")
    edit_presets(tree, lambda found: found["buildPresets"][0]["targets"].append("llama-absent"))
    with pytest.raises(BuildFailed, match="llama-absent"):
        libraries(tree, "cpu")
    assert not (tree.build / "native" / "cpu").exists()
    assert not any(path.is_dir() for path in (desk.directory / "cache" / "kylin-gguf" / "native").iterdir())


def test_leftovers_of_an_older_build_are_not_installed(desk: Desk) -> None:
    tree = desk.checkout("a")
    libraries(tree, "cpu")
    (tree.build / "cmake" / "cpu" / "bin" / "libggml-old.so").touch()
    desk.use_compiler("gcc 14.2.0")
    libraries(tree, "cpu")
    assert "libggml-old.so" not in installed(tree)


def test_failures_are_one_sentence_and_a_status(desk: Desk, capfd: pytest.CaptureFixture[str]) -> None:
    assert build.main(["libraries", "no-such-preset"]) == 1
    assert "native: there is no preset 'no-such-preset'" in capfd.readouterr().err
