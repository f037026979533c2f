"""``plan`` and ``devices``: where a model would go, here or on another machine. Neither needs the service."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from kylin_gguf import config
from kylin_gguf.bus import power
from kylin_gguf.cli import output
from kylin_gguf.cli.models import AsJson, ModelFile, open_store
from kylin_gguf.gguf_info import shards
from kylin_gguf.offload import machine, machine_file
from kylin_gguf.records import Placement, Settings
from kylin_gguf.translation import translate as _


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.command("devices", help=_("List what can compute here, and back ends that failed with the reason."))(
        devices
    )
    app.command(
        "plan",
        help=_("Show where a model would go, how much it takes there, how fast it would be, and why.")
        + "\n\n"
        + _("Example: kylin-gguf plan qwen3-0.6b --machine laptop.yaml")
        + "\n\n"
        + _("docs/offload.md describes machine files. Speeds are estimates."),
    )(show_plan)


def devices(as_json: AsJson = False) -> None:
    """Command ``devices``."""
    found = machine.probe(config.load())
    rows = [
        *(asdict(device) for device in found.devices),
        *({"name": failed.name, "kind": "failed", "description": failed.reason} for failed in found.failed),
    ]
    if as_json:
        for row in rows:
            output.print_json(row)
        return
    output.print_table(
        [_("NAME"), _("KIND"), _("FREE"), _("MEMORY"), _("DESCRIPTION")],
        [
            [
                row["name"],
                row["kind"],
                output.size(row.get("memory_free", 0)) if row.get("memory_free") else "",
                output.size(row.get("memory_total", 0)) if row.get("memory_total") else "",
                output.printable(_described(row)),
            ]
            for row in rows
        ],
    )


def _described(row: Mapping[str, Any]) -> str:
    description = str(row["description"])
    if row.get("link"):
        way = _("{description}: {rate}/s on the way there, {delay:.2f} ms to answer")
        rate = output.size(int(row["link"]))
        description = way.format(description=description, rate=rate, delay=row["delay"] * 1000)
    plugin = ": ".join(filter(None, (row.get("plugin", ""), " ".join(row.get("features", ())))))
    return "; ".join(filter(None, (description, plugin)))


def show_plan(  # noqa: PLR0913, PLR0917 - one parameter for each option
    model: ModelFile,
    device: Annotated[
        str,
        typer.Option(
            "--device",
            help=_("The only devices to use: names of 'devices' separated by commas, or cpu."),
        ),
    ] = "",
    context: Annotated[
        int, typer.Option("--ctx", min=0, help=_("Tokens of context."), show_default=False)
    ] = 0,
    use: Annotated[
        str,
        typer.Option(
            "--use",
            metavar="chat|command|document",
            help=_("What the model is mostly asked; a document is a long prompt."),
            show_default=False,
        ),
    ] = "",
    described: Annotated[
        Path | None, typer.Option("--machine", help=_("A file that describes another machine."))
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Command ``plan``."""
    # Needs numpy, which no other command of this program has to wait for.
    from kylin_gguf.offload.plan import Request, for_use, plan  # noqa: PLC0415

    settings = config.load()
    path = (
        open_store().resolve(str(Path(model).absolute()) if os.path.isfile(model) else model, "a plan").path
    )
    found = machine_file.read(described) if described else _here(settings)
    request = replace(
        Request.of(settings),
        context_length=context or settings.context_length,
        device=device or settings.device,
    )
    placement = plan(shards.read(path), found, for_use(request, use or settings.use))
    if as_json:
        output.print_json({"model": str(path), **placement.to_json()})
    else:
        _print(placement)


def _here(settings: Settings) -> machine.Machine:
    return machine.probe(settings, asyncio.run(power.read()))


def _print(placement: Placement) -> None:
    rows = [[_("RAM"), "", output.size(placement.memory)]]
    rows += [[share.device, str(share.layers), output.size(share.memory)] for share in placement.shares]
    output.print_table([_("WHERE"), _("LAYERS"), _("MEMORY")], rows)
    expected = _("expected: {decode:.0f} tokens/s of an answer, {prompt:.0f} of a prompt")
    print(expected.format(decode=placement.decode, prompt=placement.prompt))
    print(_("context: {0} tokens").format(placement.context_length))
    for reason in placement.reasons:
        print(f"- {output.printable(reason)}")
