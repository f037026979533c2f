"""Names of models for the shell to complete. Paths it completes by itself, where no name fits."""

from __future__ import annotations

import contextlib

from kylin_gguf import catalogue, config
from kylin_gguf.errors import KylinError
from kylin_gguf.store import Store


def installed(incomplete: str) -> list[str]:
    """Return the installed models whose names begin with ``incomplete``."""
    return _names(incomplete, installed=True)


def usable(incomplete: str) -> list[str]:
    """Return as ``installed``, and the models of servers."""
    return [*_names(incomplete, installed=True), *_names(incomplete, installed=False, local=False)]


def absent(incomplete: str) -> list[str]:
    """Return the models of the catalogue that are not installed and whose names begin with ``incomplete``."""
    return _names(incomplete, installed=False)


def _names(incomplete: str, *, installed: bool, local: bool = True) -> list[str]:
    # Whatever is wrong with the settings, the command will say; half a line is no place for it.
    with contextlib.suppress(KylinError):
        settings = config.load()
        rows = Store(settings, catalogue.load(settings.catalogue)).listing()
        wanted = [r for r in rows if r["installed"] == installed and r["local"] == local]
        return [row["name"] for row in wanted if row["name"].startswith(incomplete)]
    return []
