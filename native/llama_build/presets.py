"""What a preset of ``CMakePresets.json`` is made from, and the key that follows from it."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shlex
import subprocess
from typing import Any

from llama_build import inputs, patches
from llama_build.checkout import Tree
from llama_build.steps import BuildFailed, digest

LAYOUT = 1
"""Raise this when what is installed, or how, changes: it is part of every build's key."""

_FLAG_VARIABLES = ("CFLAGS", "CXXFLAGS", "LDFLAGS")


def chain(presets: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """Return preset ``name`` followed by all that it inherits from."""
    by_name = {preset["name"]: preset for preset in presets}
    if name not in by_name:
        raise BuildFailed(f"there is no preset '{name}'; known: {', '.join(sorted(by_name))}")
    inherits = by_name[name].get("inherits", [])
    parents = [inherits] if isinstance(inherits, str) else inherits
    return [by_name[name], *(link for parent in parents for link in chain(presets, parent))]


def vendor(links: list[dict[str, Any]], field: str, default: Any) -> Any:
    """Return what the preset, or the nearest that it inherits from, says for this build in ``field``."""
    said = (link.get("vendor", {}).get("kylin-gguf", {}) for link in links)
    return next((fields[field] for fields in said if field in fields), default)


def compiler(links: list[dict[str, Any]], language: str, variable: str, default: str) -> str:
    """Return the first line of what the compiler that CMake will choose says of itself."""
    option = f"CMAKE_{language}_COMPILER"
    named = (link.get("cacheVariables", {}).get(option) for link in links)
    chosen = next((name for name in named if name), os.environ.get(variable) or default)
    try:
        said = subprocess.run(
            [*shlex.split(chosen), "--version"], check=True, capture_output=True, text=True
        ).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise BuildFailed(f"no working compiler: {error}. docs/native.md says what to install") from error
    return said.partition("\n")[0]


def inputs_of(tree: Tree, preset: str) -> list[str]:
    """Return the names of what ``preset`` needs beside llama.cpp and the system (``inputs.json``)."""
    names: list[str] = vendor(chain(_read(tree)["configurePresets"], preset), "inputs", [])
    return names


def _read(tree: Tree) -> dict[str, Any]:
    presets: dict[str, Any] = json.loads((tree.native / "CMakePresets.json").read_text(encoding="utf-8"))
    return presets


def ingredients(tree: Tree, preset: str) -> dict[str, Any]:
    """Return everything that decides what a build of ``preset`` contains, as JSON-able values."""
    presets = _read(tree)
    links = chain(presets["configurePresets"], preset)
    made_from: dict[str, Any] = {
        "layout": LAYOUT,
        "archive": {"name": tree.pin.stem, "sha256": tree.pin.sha256},
        "patches": patches.digests(tree.native),
        "superproject": digest(tree.native / "CMakeLists.txt"),
        "inputs": {name: inputs.pinned(tree, name) for name in inputs_of(tree, preset)},
        "configure": links,
        "targets": next(
            link["targets"] for link in chain(presets["buildPresets"], preset) if "targets" in link
        ),
        "compilers": [compiler(links, "C", "CC", "cc"), compiler(links, "CXX", "CXX", "c++")],
        # Where the checkout lies decides nothing: it stands in options that map it to another name.
        "flags": {name: os.environ.get(name, "").replace(str(tree.root), ".") for name in _FLAG_VARIABLES},
        # The cache may be shared between containers of different age: a library runs only on the C
        # library it was linked against, or a newer one.
        "system": [platform.system(), platform.machine(), *platform.libc_ver()],
    }
    text = json.dumps(made_from, sort_keys=True)
    return {"key": hashlib.sha256(text.encode()).hexdigest()[:16], **made_from}
