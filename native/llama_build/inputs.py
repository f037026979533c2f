"""What a preset needs beside llama.cpp and the system: pinned files, unpacked to ``build/inputs/``.

``native/inputs.json`` names them by path and SHA-256 and says why they are needed. Debian packages are
unpacked, not installed: they are for the build alone.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from llama_build.checkout import Tree
from llama_build.steps import BuildFailed, appearing, call, digest, exclusive, read_stamp, say, write_stamp

MIRROR_VARIABLE = "KYLIN_GGUF_DEBIAN_MIRROR"
"""Names another mirror of Debian's archive than the usual one."""

_MIRROR = "http://deb.debian.org/debian"
# Mirrors drop a package once a point release has replaced it; here it stays. The digest makes both safe.
_ARCHIVE = "https://snapshot.debian.org/archive/debian/20261122T000000Z"
_APT_HELPER = "/usr/lib/apt/apt-helper"


def pinned(tree: Tree, name: str) -> dict[str, Any]:
    """Return what ``native/inputs.json`` says of input ``name``."""
    known = json.loads((tree.native / "inputs.json").read_text(encoding="utf-8"))
    if name not in known:
        raise BuildFailed(f"native/inputs.json has no input '{name}'")
    found: dict[str, Any] = known[name]
    return found


def directory(tree: Tree, name: str) -> Path:
    """Return where input ``name`` is unpacked."""
    return tree.build / "inputs" / name


def fetch(tree: Tree, name: str) -> list[Path]:
    """Return the files pinned for input ``name``, fetched to ``build/download/`` unless they are there."""
    pins = pinned(tree, name)
    packages = [debian_package(tree, path, sha256) for path, sha256 in pins.get("debian", {}).items()]
    return packages + [wheel(tree, path, sha256) for path, sha256 in pins.get("wheels", {}).items()]


def provide(tree: Tree, name: str) -> None:
    """Make ``build/inputs/NAME`` from the files pinned for it, unless it is there."""
    pins = pinned(tree, name)
    target = directory(tree, name)
    with exclusive(target):
        if read_stamp(target) == pins:
            return
        with appearing(target) as fresh:
            for path in fetch(tree, name):
                _unpack(path, fresh)
            write_stamp(fresh, pins)


def _unpack(path: Path, target: Path) -> None:
    if path.suffix == ".deb":
        call(["dpkg-deb", "--extract", str(path), str(target)])
        return
    # pip's --target drops the folders lib and nvvm of some wheels, and zipfile the executable bits.
    with zipfile.ZipFile(path) as wheel_file:
        wheel_file.extractall(target)
        for member in wheel_file.infolist():
            if mode := member.external_attr >> 16 & 0o777:
                (target / member.filename).chmod(mode | stat.S_IWUSR)


def debian_package(tree: Tree, path: str, sha256: str) -> Path:
    """Return the package of Debian's archive that lies at ``path``, fetched unless it is here."""
    target = tree.build / "download" / Path(path).name
    if digest(target) == sha256:
        return target
    if not Path(_APT_HELPER).exists():
        raise BuildFailed(f"there is no {_APT_HELPER} to fetch Debian's packages: put {path} at {target}")
    target.parent.mkdir(parents=True, exist_ok=True)
    said = ""
    for base in (os.environ.get(MIRROR_VARIABLE) or _MIRROR, _ARCHIVE):
        say(f"fetching {target.name} from {base}")
        # apt's own fetcher: it follows the proxy and certificates that this system is set up with.
        command = [_APT_HELPER, "download-file", f"{base}/{path}", str(target), f"SHA256:{sha256}"]
        said = subprocess.run(command, capture_output=True, text=True, check=False).stderr
        if digest(target) == sha256:
            return target
        target.unlink(missing_ok=True)
    raise BuildFailed(f"no mirror delivered {path} with SHA-256 {sha256}: {' '.join(said.split())}")


def wheel(tree: Tree, path: str, sha256: str) -> Path:
    """Return the wheel of the Python package index called ``path``, fetched by pip unless it is here."""
    target = tree.build / "download" / path
    if digest(target) == sha256:
        return target
    name, version, *_ = path.split("-")
    say(f"fetching {path}")
    pin = f"{name}=={version} --hash=sha256:{sha256}\n"
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as requirements:
        requirements.write(pin)
        requirements.flush()
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--require-hashes", "--no-deps"]
        pip += ["--only-binary=:all:", f"--dest={target.parent}", f"--requirement={requirements.name}"]
        call(pip)
    if digest(target) != sha256:
        raise BuildFailed(f"pip did not deliver {path} with SHA-256 {sha256}")
    return target
