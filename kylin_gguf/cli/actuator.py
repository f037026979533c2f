"""``actuator``: the process that carries commands out, in the foreground."""

from __future__ import annotations

import asyncio
import logging

import typer

from kylin_gguf import config
from kylin_gguf.bus import adapter, private
from kylin_gguf.errors import ServiceUnavailable
from kylin_gguf.translation import translate as _


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command(
        "actuator",
        help=_("Carry out desktop commands for the service, as long as it runs.")
        + "\n\n"
        + _("It is started on demand; run it by hand to see its log."),
    )(actuator)


def actuator() -> None:
    """Command ``actuator``."""
    if logging.getLogger().level > logging.INFO:
        logging.getLogger().setLevel(logging.INFO)
    asyncio.run(_serve())


async def _serve() -> None:
    settings = config.load()
    address = await private.running_bus(settings)
    if not address:
        raise ServiceUnavailable("there is no session bus")
    await adapter.serve(settings, address)
