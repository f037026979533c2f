"""``monitor``: a full-screen view of what the service is doing. Its screen needs Textual, an extra."""

from __future__ import annotations

import sys

import typer

from kylin_gguf.errors import ExtraMissing, InvalidValue
from kylin_gguf.translation import translate as _


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command(
        "monitor",
        help=_("Watch models, devices, speeds, the queue, memory and commands live.")
        + "\n\n"
        + _("Starts nothing. Programs read the same with: kylin-gguf status --watch --json"),
    )(monitor)


def monitor() -> None:
    """Command ``monitor``."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise InvalidValue("monitor", _("no terminal"), _("a terminal, or status --watch --json"))
    try:
        from kylin_gguf.cli.monitor_app import MonitorApp  # noqa: PLC0415 - an extra, and slow to import
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "textual":
            raise
        raise ExtraMissing("monitor", "textual", "monitor") from error
    MonitorApp().run_to_the_end()
