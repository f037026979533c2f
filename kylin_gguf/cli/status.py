"""``status``: does the service run, and what does it hold?"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Annotated, Any, NoReturn

import typer

from kylin_gguf.cli import output
from kylin_gguf.cli.errors import EXIT_CODES
from kylin_gguf.cli.models import AsJson
from kylin_gguf.cli.watch import look
from kylin_gguf.errors import ServiceUnavailable
from kylin_gguf.translation import translate as _

WATCH_S = 1.0


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command(
        "status",
        help=_("Show whether the service runs, and the models it has loaded. Starts nothing.")
        + "\n\n"
        + _("Ends with status 81 when the service does not run."),
    )(status)


def status(
    watch: Annotated[
        bool, typer.Option("--watch", help=_("Show it again every second, until Ctrl-C."))
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Command ``status``."""
    if watch:
        with contextlib.suppress(KeyboardInterrupt):
            _watch(as_json)
        return
    found = asyncio.run(look())
    _show(found, as_json=as_json)
    if found is None:
        raise typer.Exit(EXIT_CODES[ServiceUnavailable])


def _watch(as_json: bool) -> NoReturn:
    while True:
        _show(asyncio.run(look()), as_json=as_json, again=True)
        time.sleep(WATCH_S)


def _show(found: dict[str, Any] | None, *, as_json: bool, again: bool = False) -> None:
    if as_json:
        output.print_json({"running": found is not None, **(found or {})})
        return
    if again:
        output.clear_screen()
    if found is None:
        print(_("The service is not running. It starts by itself when it is needed."))
    else:
        _print(found)


def _print(found: dict[str, Any]) -> None:
    output.print_fields(
        {
            _("Service"): f"{_('running')}, {found['Version']}",
            _("Default model"): found["DefaultModel"] or "—",
        }
    )
    for model in found.get("LoadedModels", ()):
        placement = model["placement"]
        line = _(
            "{name}: {memory} ({private} private), "
            "loaded in {seconds:.1f} s, process {pid}, context {context}"
        )
        print(
            line.format(
                name=model["name"],
                memory=output.size(model["memory"]),
                private=output.size(model["memory_private"]),
                seconds=model["load_s"],
                pid=model["pid"],
                context=placement["context_length"],
            )
        )
