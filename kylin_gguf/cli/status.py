"""``status``: does the service run, and what does it hold?"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from typing import Annotated, Any, NoReturn

import typer

from kylin_gguf.cli import output
from kylin_gguf.cli.errors import EXIT_CODES
from kylin_gguf.cli.models import AsJson, not_local
from kylin_gguf.cli.watch import Look, Speed, Speeds, look
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
    speeds = Speeds()
    while True:
        found = asyncio.run(look())
        now = speeds.since_last(found["Statistics"]) if found else {}
        _show(found, as_json=as_json, again=True, speeds=now)
        time.sleep(WATCH_S)


def _show(
    found: Look | None, *, as_json: bool, again: bool = False, speeds: Mapping[int, Speed] | None = None
) -> None:
    if as_json:
        output.print_json({"running": found is not None, **(found or {})})
        return
    if again:
        output.clear_screen()
    if found is None:
        print(_("The service is not running. It starts by itself when it is needed."))
    else:
        _print(found)
        _print_activity(found["Statistics"], speeds or {})


def _print(found: Look) -> None:
    output.print_fields(
        {
            _("Service"): f"{_('running')}, {found['Version']}",
            _("Default model"): found["DefaultModel"] or "—",
        }
    )
    for model in found.get("LoadedModels", ()):
        if "placement" not in model:
            line = _("{name}: {place}, process {pid}")
            place = not_local(model["remote"])
            print(line.format(name=model["name"], place=place, pid=model["pid"]))
            continue
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
                context=model["placement"]["context_length"],
            )
        )


def _print_activity(told: Mapping[str, Any], speeds: Mapping[int, Speed]) -> None:
    for model in told["models"]:
        line = _(
            "{name}: {running} running, {waiting} waiting, {used} of {cells} tokens of context in use, "
            "{hits} of {requests} prompts known in part"
        )
        print(
            line.format(
                name=model["name"],
                running=model["running"],
                waiting=model["waiting"],
                used=model["cells_used"],
                cells=model["cells"],
                hits=model["cache_hits"],
                requests=model["requests"],
            )
        )
        if speed := speeds.get(model["pid"]):
            line = _("{name}: answers {answers:.1f} tokens/s, prompts {prompts:.1f} tokens/s")
            print(line.format(name=model["name"], answers=speed.answers, prompts=speed.prompts))
