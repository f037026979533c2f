#!/usr/bin/env python3
"""Fetch, build and install llama.cpp: ``build.py source``, ``bindings`` and ``libraries PRESET``.

``source`` has pip fetch the pinned archive and unpacks it to ``build/source/``. ``bindings`` installs the
Python half of it into the environment that this script runs in. ``libraries`` builds a preset of
CMakePresets.json in ``build/cmake/PRESET/`` and puts the shared libraries and tools flat into
``build/native/PRESET/``. A finished build is also kept under the user's cache directory for other
checkouts. What is there already is not made again.

Runs on the virtual environment's Python with build-requirements.txt installed: pip needs an archive's
build backend even to read its metadata.

Standard library only. Exit status 1 with a sentence on stderr when something fails.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LAYOUT = 1
"""Raise this when what is installed, or how, changes: it is part of every build's key."""

STAMP = "BUILD.json"
_PIN = re.compile(
    r"^(?P<name>[\w-]+)==(?P<version>\S+)\s*\\\s*--hash=sha256:(?P<sha256>[0-9a-f]{64})\s*$", re.M
)
_FLAG_VARIABLES = ("CFLAGS", "CXXFLAGS", "LDFLAGS")


class BuildFailed(Exception):
    """A step that cannot go on; the text is for the user."""


@dataclass(frozen=True)
class Pin:
    """The source archive, as native/requirements.txt names it."""

    name: str
    version: str
    sha256: str

    @classmethod
    def parse(cls, requirements: str) -> Pin:
        """Read the one hash-pinned requirement of ``requirements``; anything else is BuildFailed."""
        found = [cls(**match.groupdict()) for match in _PIN.finditer(requirements)]
        if len(found) != 1:
            raise BuildFailed("native/requirements.txt must pin exactly one archive by version and SHA-256")
        return found[0]

    @property
    def stem(self) -> str:
        """Name of the archive without its suffix, which is also its top directory (PEP 625)."""
        return f"{self.name.replace('-', '_')}-{self.version}"


class Tree:
    """Where things lie in one checkout."""

    def __init__(self, root: Path) -> None:
        self.native = root / "native"
        self.build = root / "build"
        self.root = root
        self.pin = Pin.parse((self.native / "requirements.txt").read_text(encoding="utf-8"))
        self.archive = self.build / "download" / f"{self.pin.stem}.tar.gz"
        self.source = self.build / "source" / self.pin.stem


def say(text: str) -> None:
    """Tell the user what happens now, between the lines of the tools called."""
    print(f"native: {text}", flush=True)


def call(command: list[str], **options: Any) -> None:
    """Run ``command`` with its output shown; a failure is BuildFailed."""
    try:
        subprocess.run(command, check=True, **options)
    except (OSError, subprocess.CalledProcessError) as error:
        raise BuildFailed(str(error)) from error


@contextmanager
def exclusive(directory: Path) -> Iterator[None]:
    """Keep other runs of this script from making ``directory``, waiting for one that does."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    with directory.with_name(f".{directory.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def appearing(target: Path) -> Iterator[Path]:
    """Give an empty directory that replaces ``target`` when the block succeeds and vanishes when not."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as scratch:
        fresh = Path(scratch, "new")
        fresh.mkdir()
        yield fresh
        if target.exists():
            target.rename(Path(scratch, "old"))
        fresh.rename(target)


def read_stamp(directory: Path) -> dict[str, Any]:
    """Return what ``directory`` was made from; empty when it is unfinished or not there."""
    try:
        stamp = json.loads((directory / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def write_stamp(directory: Path, made_from: dict[str, Any]) -> None:
    """Record what ``directory`` was made from."""
    (directory / STAMP).write_text(json.dumps(made_from, indent=2) + "\n", encoding="utf-8")


# --- The source -----------------------------------------------------------------------------------


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal; empty when there is no such file."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
    """Make ``build/source/NAME-VERSION`` from the archive, unless it is there."""
    made_from = {"sha256": tree.pin.sha256}
    with exclusive(tree.source):
        if read_stamp(tree.source) == made_from:
            return
        fetch(tree)
        say(f"unpacking {tree.archive.name}")
        extract(tree, made_from)


def extract(tree: Tree, made_from: dict[str, Any]) -> None:
    """Replace the unpacked source by what the verified archive holds."""
    with appearing(tree.source) as fresh:
        # tar rather than tarfile: Debian 12's Python predates tarfile's extraction filters.
        call(["tar", "-xzf", str(tree.archive), "-C", str(fresh), "--strip-components=1", "--no-same-owner"])
        write_stamp(fresh, made_from)


def bindings(tree: Tree) -> None:
    """Install the Python bindings from the unpacked source, without libraries of their own."""
    unpack(tree)
    say(f"installing {tree.pin.name} {tree.pin.version}")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-build-isolation", str(tree.source)]
    call(pip, env=os.environ | {"CMAKE_ARGS": "-DLLAMA_BUILD=OFF"})


# --- The key --------------------------------------------------------------------------------------


def preset_chain(presets: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """Return configure preset ``name`` followed by all that it inherits from."""
    by_name = {preset["name"]: preset for preset in presets}
    if name not in by_name:
        raise BuildFailed(f"there is no preset '{name}'; known: {', '.join(sorted(by_name))}")
    inherits = by_name[name].get("inherits", [])
    parents = [inherits] if isinstance(inherits, str) else inherits
    return [by_name[name], *(link for parent in parents for link in preset_chain(presets, parent))]


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
        "superproject": digest(tree.native / "CMakeLists.txt"),
        "configure": preset_chain(presets["configurePresets"], preset),
        "targets": next(p["targets"] for p in presets["buildPresets"] if p["name"] == preset),
        "compilers": [compiler("CC", "cc"), compiler("CXX", "c++")],
        "flags": {name: os.environ.get(name, "") for name in _FLAG_VARIABLES},
        # The cache may be shared between containers of different age: a library runs only on the C
        # library it was linked against, or a newer one.
        "system": [platform.system(), platform.machine(), *platform.libc_ver()],
    }
    text = json.dumps(made_from, sort_keys=True)
    return {"key": hashlib.sha256(text.encode()).hexdigest()[:16], **made_from}


# --- The libraries --------------------------------------------------------------------------------


def cache_directory() -> Path:
    """Return where finished builds are kept for other checkouts (XDG base directories)."""
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (given if given.is_absolute() else Path.home() / ".cache") / "kylin-gguf" / "native"


def build_environment(tree: Tree) -> dict[str, str]:
    """Return the environment for CMake: ccache when it is installed, as many jobs as we may use cores."""
    environment = dict(os.environ)
    if shutil.which("ccache"):
        for language in ("C", "CXX"):
            environment.setdefault(f"CMAKE_{language}_COMPILER_LAUNCHER", "ccache")
        # Paths below the checkout become relative, so that another checkout finds the same objects.
        environment.setdefault("CCACHE_BASEDIR", str(tree.root))
    environment.setdefault("CMAKE_BUILD_PARALLEL_LEVEL", str(len(os.sched_getaffinity(0))))
    return environment


def compile_preset(tree: Tree, preset: str, made_from: dict[str, Any]) -> Path:
    """Configure and build ``preset``; return the directory with the results.

    An interrupted build of the same ingredients resumes; one of others is thrown away first, so that no
    library of an older build is installed with the new ones.
    """
    directory = tree.build / "cmake" / preset
    if read_stamp(directory) != made_from:
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        write_stamp(directory, made_from)
    environment = build_environment(tree)
    llama_cpp = tree.source / "vendor" / "llama.cpp"
    say(f"building preset {preset} ({' / '.join(made_from['compilers'])})")
    configure = ["cmake", "--preset", preset, f"-DLLAMA_CPP_SOURCE={llama_cpp}"]
    call(configure, cwd=tree.native, env=environment, stdout=subprocess.DEVNULL)
    call(["cmake", "--build", "--preset", preset], cwd=tree.native, env=environment)
    return directory / "bin"


def install(built: Path, target: Path, made_from: dict[str, Any]) -> None:
    """Put the libraries and tools in ``built`` into ``target``, all or nothing."""
    with appearing(target) as fresh:
        for path in sorted([*built.glob("lib*.so*"), *built.glob("llama-*")]):
            shutil.copy2(path, fresh / path.name, follow_symlinks=False)
        missing = [name for name in made_from["targets"] if not produced(fresh, name)]
        if missing:
            raise BuildFailed(f"the build left no {', '.join(missing)} in {built}")
        write_stamp(fresh, made_from)


def produced(directory: Path, target: str) -> bool:
    """Return whether ``directory`` holds what build target ``target`` makes: a tool or a library."""
    return (directory / target).is_file() or (directory / f"lib{target}.so").is_file()


def libraries(tree: Tree, preset: str) -> None:
    """Make ``build/native/PRESET`` from the cache or by building, unless it is there."""
    made_from = ingredients(tree, preset)
    target = tree.build / "native" / preset
    kept = cache_directory() / made_from["key"]
    with exclusive(target):
        if read_stamp(target) == made_from:
            return
        if read_stamp(kept) == made_from:
            say(f"preset {preset} was built before; taking it from {kept}")
        else:
            unpack(tree)
            install(compile_preset(tree, preset, made_from), kept, made_from)
        install(kept, target, made_from)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description="Fetch, build and install llama.cpp.")
    steps = parser.add_subparsers(dest="step", required=True)
    steps.add_parser("source", help="fetch and unpack the pinned source archive")
    steps.add_parser("bindings", help="install the Python bindings into this environment")
    steps.add_parser("libraries", help="build a preset and install it").add_argument("preset")
    chosen = parser.parse_args(arguments)
    try:
        tree = Tree(Path(__file__).resolve().parent.parent)
        if chosen.step == "source":
            unpack(tree)
        elif chosen.step == "bindings":
            bindings(tree)
        else:
            libraries(tree, chosen.preset)
    except (BuildFailed, OSError) as error:
        print(f"native: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
