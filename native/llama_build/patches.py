"""Our changes to llama.cpp: ``native/patches/*.patch``, applied in the order of their names.

Each says in its header why it is there and what upstream thinks of it. They are written against the pinned
source, so they must fit it exactly.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from llama_build.steps import BuildFailed, digest, say

_TOUCHED = re.compile(r"^\+\+\+ b/(\S+)", re.M)


def series(native: Path) -> list[Path]:
    """Return the patches in the order in which they are applied."""
    return sorted((native / "patches").glob("*.patch"))


def digests(native: Path) -> dict[str, str]:
    """Return the name and SHA-256 of each patch, in order."""
    return {path.name: digest(path) for path in series(native)}


def apply(native: Path, tree: Path) -> dict[str, str]:
    """Apply all patches to the pristine ``tree``; return the files they changed with their SHA-256 now."""
    touched: set[str] = set()
    for path in series(native):
        say(f"applying {path.name}")
        _apply(path, tree)
        touched.update(_TOUCHED.findall(path.read_text(encoding="utf-8")))
    return {name: digest(tree / name) for name in sorted(touched)}


def _apply(path: Path, tree: Path) -> None:
    # No fuzz: a hunk whose surroundings differ may land where it means something else. --forward and
    # --batch: what is applied already is an error too, not a question.
    command = ["patch", "--strip=1", "--fuzz=0", "--forward", "--batch", "--no-backup-if-mismatch"]
    command += ["--reject-file=-", f"--directory={tree}", f"--input={path}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise BuildFailed(
            f"{path.name} cannot be applied: {error}. 'make bootstrap' installs patch"
        ) from error
    if done.returncode:
        said = " ".join((done.stdout + done.stderr).split())
        raise BuildFailed(f"{path.name} does not fit the pinned source, or is in it already: {said}")


def check(tree: Path, patched: dict[str, str]) -> None:
    """Refuse a ``tree`` whose patched files are no longer what ``apply`` left."""
    changed = [name for name, sha256 in patched.items() if digest(tree / name) != sha256]
    if changed:
        raise BuildFailed(
            f"{', '.join(changed)} in {tree} was changed after our patches were applied. Changes to "
            f"llama.cpp belong into native/patches/; delete {tree} to have it unpacked anew"
        )
