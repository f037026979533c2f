"""From the pinned archive to the patched source in ``build/source/``, and the Python bindings from it."""

from __future__ import annotations

import os
import sys
from typing import Any

from llama_build import patches
from llama_build.checkout import Tree
from llama_build.steps import BuildFailed, appearing, call, digest, exclusive, read_stamp, say, write_stamp


def fetch(tree: Tree) -> None:
    """Have pip download the archive, unless the right one is there. pip verifies it before opening it."""
    if digest(tree.archive) == tree.pin.sha256:
        return
    say(f"fetching {tree.archive.name}")
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--require-hashes", "--no-deps"]
    pip += ["--no-binary=:all:", "--no-build-isolation", f"--dest={tree.archive.parent}"]
    call([*pip, f"--requirement={tree.native / 'requirements.txt'}"])
    if digest(tree.archive) != tree.pin.sha256:
        raise BuildFailed(f"pip did not deliver {tree.archive.name} with SHA-256 {tree.pin.sha256}")


def unpack(tree: Tree) -> None:
    """Make ``build/source/NAME-VERSION`` from the archive and our patches, unless it is there."""
    made_from = {"sha256": tree.pin.sha256, "patches": patches.digests(tree.native)}
    with exclusive(tree.source):
        stamp = read_stamp(tree.source)
        patched = stamp.pop("patched", None)
        if patched is not None and stamp == made_from:
            patches.check(tree.llama_cpp, patched)
            return
        fetch(tree)
        say(f"unpacking {tree.archive.name}")
        extract(tree, made_from)


def extract(tree: Tree, made_from: dict[str, Any]) -> None:
    """Replace the unpacked source by what the verified archive holds, with our patches applied."""
    with appearing(tree.source) as fresh:
        # tar rather than tarfile: Debian 12's Python predates tarfile's extraction filters.
        call(["tar", "-xzf", str(tree.archive), "-C", str(fresh), "--strip-components=1", "--no-same-owner"])
        patched = patches.apply(tree.native, fresh / tree.llama_cpp.relative_to(tree.source))
        write_stamp(fresh, {**made_from, "patched": patched})


def bindings(tree: Tree) -> None:
    """Install the Python bindings from the unpacked source, without libraries of their own."""
    unpack(tree)
    say(f"installing {tree.pin.name} {tree.pin.version}")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-build-isolation", str(tree.source)]
    call(pip, env=os.environ | {"CMAKE_ARGS": "-DLLAMA_BUILD=OFF"})
