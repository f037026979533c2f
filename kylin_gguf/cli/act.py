"""``act``: what command do these words stand for?"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from kylin_gguf import config
from kylin_gguf.bus.client import Client
from kylin_gguf.cli import given, output
from kylin_gguf.cli.consent import ask
from kylin_gguf.cli.errors import exit_code
from kylin_gguf.cli.models import AsJson, Model, reference
from kylin_gguf.errors import InvalidValue, ModelNotInstalled, UnsupportedModel, UsageError
from kylin_gguf.translation import translate as _

LINE_FORM = 'a JSON object {"id", "utterance"}'


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command(
        "act",
        help=_("Find the desktop command that an utterance asks for; with --run, carry it out.")
        + "\n\n"
        + _('Examples: kylin-gguf act --json "把音量调到百分之四十" — kylin-gguf act --batch said.jsonl'),
    )(act)


def act(  # noqa: PLR0913, PLR0917 — one parameter for each option
    utterance: Annotated[str, typer.Argument(help=_("What the user said."), show_default=False)] = "",
    batch: Annotated[
        str,
        typer.Option(
            metavar="FILE",
            help=_("Read {id, utterance} objects, one a line; - is stdin."),
            show_default=False,
        ),
    ] = "",
    run: Annotated[bool, typer.Option("--run", help=_("Carry the command out."))] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help=_("Say yes to commands that ask before they are carried out."))
    ] = False,
    model: Model = "",
    as_json: AsJson = False,
) -> None:
    """Command ``act``."""
    if bool(utterance) == bool(batch):
        raise InvalidValue("act", utterance or batch, _("either an utterance or --batch FILE"))
    if batch and run:
        raise InvalidValue("--run", batch, _("a single utterance"))
    if utterance and run:
        raise typer.Exit(asyncio.run(_run(utterance, reference(model), yes=yes, as_json=as_json)))
    requests = list(_requests(batch)) if batch else [{"utterance": utterance}]
    if not requests:
        raise typer.Exit
    worst = asyncio.run(_interpret(requests, reference(model), as_json))
    raise typer.Exit(worst)


def _requests(batch: str) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(given.lines(batch), 1):
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
        if "id" in requests[0]:
            await _learn(client, model)
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


async def _learn(client: Client, model: str) -> None:
    """Have the model learn the commands first: no line of a batch is answered with less than others."""
    try:
        with output.progress() as progress:
            await client.load(model, progress, learn=True)
    except (ModelNotInstalled, UnsupportedModel):
        if model:
            raise


async def _run(utterance: str, model: str, *, yes: bool, as_json: bool) -> int:
    """Interpret and carry out; return 0 when it was done, or nothing was asked for."""
    async with await Client.connect(config.load()) as client:
        found = await client.interpret(utterance, model)
        if found["command"] is not None:
            confirmed = yes or not found.get("confirm") or await ask(_line({}, found))
            found["result"] = await client.execute(found["command"], found["arguments"], confirmed=confirmed)
    if as_json:
        output.print_json(found)
    else:
        print(_line({}, found))
        if "result" in found:
            print(output.printable(_outcome(found["result"])))
    return 0 if found.get("result", {}).get("status", "done") == "done" else 1


def _outcome(result: dict[str, Any]) -> str:
    status, value = result["status"], result.get("value")
    if status == "done":
        return _("Done.") if value is None else _("Done: {value}").format(value=value)
    template = _("Not available: {reason}") if status == "unavailable" else _("Failed: {reason}")
    return template.format(reason=result.get("reason", ""))


def _line(about: dict[str, Any], found: dict[str, Any]) -> str:
    prefix = f"{about['id']}: " if about else ""
    if "error" in found:
        return prefix + str(found["error"]["message"])
    if found["command"] is None:
        return prefix + _("No command fits: this is chat.")
    arguments = "".join(f" {name}={value}" for name, value in found["arguments"].items())
    asks = " " + _("(asks first)") if found.get("confirm") else ""
    return f"{prefix}{found['command']}{arguments}  {found['confidence']:.0%}{asks}"
