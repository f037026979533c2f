"""``act``: what command do these words stand for?"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from kylin_gguf import config
from kylin_gguf.bus.client import Client
from kylin_gguf.cli import output
from kylin_gguf.cli.errors import exit_code
from kylin_gguf.cli.models import AsJson, Model, reference
from kylin_gguf.errors import FileMissing, InvalidValue, UsageError
from kylin_gguf.translation import translate as _

LINE_FORM = 'a JSON object {"id", "utterance"}'


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command(
        "act",
        help=_("Find the desktop command that an utterance asks for. Nothing is carried out.")
        + "\n\n"
        + _('Examples: kylin-gguf act --json "把音量调到百分之四十" — kylin-gguf act --batch said.jsonl'),
    )(act)


def act(
    utterance: Annotated[str, typer.Argument(help=_("What the user said."), show_default=False)] = "",
    batch: Annotated[
        str,
        typer.Option(
            metavar="FILE",
            help=_("Read {id, utterance} objects, one a line; - is stdin."),
            show_default=False,
        ),
    ] = "",
    model: Model = "",
    as_json: AsJson = False,
) -> None:
    """Command ``act``."""
    if bool(utterance) == bool(batch):
        raise InvalidValue("act", utterance or batch, _("either an utterance or --batch FILE"))
    requests = list(_requests(batch)) if batch else [{"utterance": utterance}]
    worst = asyncio.run(_interpret(requests, reference(model), as_json))
    raise typer.Exit(worst)


def _requests(batch: str) -> Iterator[dict[str, Any]]:
    try:
        lines = (sys.stdin.read() if batch == "-" else Path(batch).read_text(encoding="utf-8")).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise FileMissing(batch, str(error)) from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            request = json.loads(line)
            yield {"id": request["id"], "utterance": str(request["utterance"])}
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidValue(f"{batch}:{number}", line[:80], LINE_FORM) from error


async def _interpret(requests: list[dict[str, Any]], model: str, as_json: bool) -> int:
    """Interpret in order, printing as results come; return the exit code of the first refusal, or 0.

    One utterance that is refused does not end a batch; a service that fails does.
    """
    worst = 0
    async with await Client.connect(config.load()) as client:
        for request in requests:
            about = {"id": request["id"]} if "id" in request else {}
            try:
                found = await client.interpret(request["utterance"], model)
            except UsageError as error:
                if not about:
                    raise
                worst = worst or exit_code(error)
                found = {"command": None, "error": {"code": error.code, "message": error.message()}}
            if as_json:
                output.print_json(about | found)
            else:
                print(_line(about, found))
    return worst


def _line(about: dict[str, Any], found: dict[str, Any]) -> str:
    prefix = f"{about['id']}: " if about else ""
    if "error" in found:
        return prefix + str(found["error"]["message"])
    if found["command"] is None:
        return prefix + _("No command fits: this is chat.")
    arguments = "".join(f" {name}={value}" for name, value in found["arguments"].items())
    asks = " " + _("(asks first)") if found.get("confirm") else ""
    return f"{prefix}{found['command']}{arguments}  {found['confidence']:.0%}{asks}"
