"""``serve``: the service in the foreground."""

from __future__ import annotations

import asyncio
import logging
from typing import Annotated

import typer

from kylin_gguf import config
from kylin_gguf.bus import server
from kylin_gguf.translation import translate as _


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command(
        "serve",
        help=_("Run the D-Bus service until Ctrl-C, or until nobody has used it for a while.")
        + "\n\n"
        + _("It is started on demand; run it by hand to see its log."),
    )(serve)


def serve(
    idle_exit: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS", help=_("End after this time without use; 0: never."), show_default=False
        ),
    ] = None,
) -> None:
    """Command ``serve``."""
    if logging.getLogger().level > logging.INFO:
        logging.getLogger().setLevel(logging.INFO)
    settings = config.load({} if idle_exit is None else {"idle_exit_s": idle_exit})
    asyncio.run(server.serve(settings))
