"""The applications that are installed, from their desktop files.

The format is freedesktop.org's Desktop Entry Specification.
"""

from __future__ import annotations

import configparser
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kylin_gguf.adapter.outcome import Unavailable

LAUNCHER = "gio"
"""Its ``launch`` knows how a desktop file is started: field codes, terminals, D-Bus activation."""
MAX_FILES = 2000
MAX_BYTES = 1 << 18
SUFFIX = ".desktop"
_GROUP = "Desktop Entry"
_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*\.desktop")
_NAMES = ("name", "name[zh_cn]", "genericname", "genericname[zh_cn]")


@dataclass(frozen=True)
class Application:
    """One desktop file: its id, what people may call the application, and the program that it starts."""

    id: str
    names: tuple[str, ...]
    program: str


def _directories() -> Iterator[Path]:
    home = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local/share")
    system = os.environ.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share"
    for directory in (home, *system.split(":")):
        if Path(directory).is_absolute():  # the base directory specification ignores others
            yield Path(directory) / "applications"


def find(name: str) -> Path:
    """Return the desktop file with the id ``name``; raises Unavailable when there is none."""
    if _ID.fullmatch(name):
        for directory in _directories():
            if (directory / name).is_file():
                return directory / name
    raise Unavailable(f"no application {name[:80]} is installed")


def installed() -> tuple[Application, ...]:
    """Return the applications that a menu would show, by id. What cannot be read is left out.

    Files in directories below are not looked for: their ids contain the directory's name.
    """
    found: dict[str, Application | None] = {}
    for directory in _directories():
        for path in sorted(directory.glob(f"*{SUFFIX}"))[:MAX_FILES]:
            if path.name not in found and _ID.fullmatch(path.name):
                found[path.name] = _read(path)
    return tuple(application for _, application in sorted(found.items()) if application)


def _read(path: Path) -> Application | None:
    parser = configparser.ConfigParser(interpolation=None, strict=False, delimiters=("=",))
    try:
        if path.stat().st_size > MAX_BYTES:
            return None
        parser.read_string(path.read_text(encoding="utf-8"))
        entry = parser[_GROUP]
    except (OSError, UnicodeDecodeError, configparser.Error, KeyError):
        return None
    hidden = any(entry.get(key, "false").strip() == "true" for key in ("hidden", "nodisplay"))
    if entry.get("type") != "Application" or hidden:
        return None
    names = tuple(dict.fromkeys(entry[key].strip() for key in _NAMES if entry.get(key, "").strip()))
    words = entry.get("exec", "").split() or [""]
    return Application(path.name, names, words[0].strip('"').rpartition("/")[2]) if names else None


def stamp() -> tuple[float, ...]:
    """Return a value that changes when applications are installed or removed."""
    return tuple(d.stat().st_mtime if d.is_dir() else 0.0 for d in _directories())
