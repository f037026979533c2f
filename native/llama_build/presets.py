"""What a preset of ``CMakePresets.json`` is made from, and the key that follows from it."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shlex
import subprocess
from typing import Any

from llama_build import patches
from llama_build.checkout import Tree
from llama_build.steps import BuildFailed, digest

LAYOUT = 1
"""Raise this when what is installed, or how, changes: it is part of every build's key."""

_FLAG_VARIABLES = ("CFLAGS", "CXXFLAGS", "LDFLAGS")


def chain(presets: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """Return configure preset ``name`` followed by all that it inherits from."""
    by_name = {preset["name"]: preset for preset in presets}
    if name not in by_name:
        raise BuildFailed(f"there is no preset '{name}'; known: {', '.join(sorted(by_name))}")
    inherits = by_name[name].get("inherits", [])
    parents = [inherits] if isinstance(inherits, str) else inherits
    return [by_name[name], *(link for parent in parents for link in chain(presets, parent))]


def compiler(variable: str, default: str) -> str:
    """Return the first line of what the compiler that CMake will choose says of itself."""
    command = [*shlex.split(os.environ.get(variable) or default), "--version"]
    try:
        said = subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise BuildFailed(f"no working compiler: {error}. 'make bootstrap' installs one") from error
    return said.stdout.partition("\n")[0]


def ingredients(tree: Tree, preset: str) -> dict[str, Any]:
    """Return everything that decides what a build of ``preset`` contains, as JSON-able values."""
    presets = json.loads((tree.native / "CMakePresets.json").read_text(encoding="utf-8"))
    made_from: dict[str, Any] = {
        "layout": LAYOUT,
        "archive": {"name": tree.pin.stem, "sha256": tree.pin.sha256},
        "patches": patches.digests(tree.native),
        "superproject": digest(tree.native / "CMakeLists.txt"),
        "configure": chain(presets["configurePresets"], preset),
        "targets": next(p["targets"] for p in presets["buildPresets"] if p["name"] == preset),
        "compilers": [compiler("CC", "cc"), compiler("CXX", "c++")],
        "flags": {name: os.environ.get(name, "") for name in _FLAG_VARIABLES},
        # The cache may be shared between containers of different age: a library runs only on the C
        # library it was linked against, or a newer one.
        "system": [platform.system(), platform.machine(), *platform.libc_ver()],
    }
    text = json.dumps(made_from, sort_keys=True)
    return {"key": hashlib.sha256(text.encode()).hexdigest()[:16], **made_from}
