#!/usr/bin/env python3
"""Fetch, build and install llama.cpp: ``build.py source``, ``bindings``, ``fetch`` and ``libraries PRESET``.

``fetch`` downloads everything pinned that a preset is built from to ``build/download/`` and prints the paths;
with these files in place, nothing below needs a network.
``source`` has pip fetch the pinned archive, unpacks it to ``build/source/`` and applies our patches.
``bindings`` installs the Python half of it into the environment that this script runs in. ``libraries``
builds a preset of CMakePresets.json in ``build/cmake/PRESET/`` and puts the shared libraries and tools flat
into ``build/native/PRESET/``. A finished build is also kept under the user's cache directory for other
checkouts. What is there already is not made again.

Runs on the virtual environment's Python with build-requirements.txt installed: pip needs an archive's
build backend even to read its metadata.

Standard library only. Exit status 1 with a sentence on stderr when something fails.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from llama_build import inputs, source
from llama_build.checkout import Tree
from llama_build.libraries import libraries
from llama_build.presets import inputs_of
from llama_build.steps import BuildFailed


def fetch(tree: Tree, preset: str) -> None:
    """Download the source archive and the inputs of ``preset``; print their paths, one a line."""
    source.fetch(tree)
    downloads = [path for name in inputs_of(tree, preset) for path in inputs.fetch(tree, name)]
    for path in (tree.archive, *downloads):
        print(path)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description="Fetch, build and install llama.cpp.")
    steps = parser.add_subparsers(dest="step", required=True)
    steps.add_parser("source", help="fetch, unpack and patch the pinned source archive")
    steps.add_parser("bindings", help="install the Python bindings into this environment")
    for name, does in (
        ("fetch", "download what a preset is built from, and print the paths"),
        ("libraries", "build a preset and install it"),
    ):
        steps.add_parser(name, help=does).add_argument("preset")
    chosen = parser.parse_args(arguments)
    try:
        tree = Tree(Path(__file__).resolve().parent.parent)
        if chosen.step == "source":
            source.unpack(tree)
        elif chosen.step == "bindings":
            source.bindings(tree)
        elif chosen.step == "fetch":
            fetch(tree, chosen.preset)
        else:
            libraries(tree, chosen.preset)
    except (BuildFailed, OSError) as error:
        print(f"native: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
