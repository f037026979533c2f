"""``ps`` and ``stop``: the models that the service holds in memory. Neither starts it."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer

from kylin_gguf import config
from kylin_gguf.bus.client import Client
from kylin_gguf.cli import completion, output
from kylin_gguf.cli.models import AsJson, not_local, reference
from kylin_gguf.errors import InvalidValue
from kylin_gguf.translation import translate as _


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.command("ps", help=_("List the models that are loaded."))(ps)
    app.command(
        "stop",
        help=_("Unload models; answers that they are giving end.")
        + "\n\n"
        + _("Examples: kylin-gguf stop qwen3-0.6b — kylin-gguf stop --all"),
    )(stop)


def ps(as_json: AsJson = False) -> None:
    """Command ``ps``."""
    models = asyncio.run(_loaded())
    if as_json:
        for model in models:
            output.print_json(model)
        return
    output.print_table(
        [_("NAME"), _("MEMORY"), _("PRIVATE"), _("CONTEXT"), _("GPU LAYERS"), _("PROCESS")],
        [_line(model) for model in models],
    )


def _line(model: dict[str, Any]) -> list[str]:
    placement = model.get("placement")
    return [
        model["name"],
        output.size(model["memory"]),
        output.size(model["memory_private"]),
        str(placement["context_length"]) if placement else "",
        str(placement["gpu_layers"]) if placement else not_local(model["remote"]),
        str(model["pid"]),
    ]


async def _loaded() -> list[dict[str, Any]]:
    async with await Client.connect(config.load(), start=False) as client:
        models: list[dict[str, Any]] = (await client.properties()).get("LoadedModels", [])
        return models


def stop(
    model: Annotated[
        str,
        typer.Argument(
            metavar="NAME|FILE",
            help=_("A loaded model."),
            show_default=False,
            autocompletion=completion.installed,
        ),
    ] = "",
    everything: Annotated[bool, typer.Option("--all", help=_("Unload every model."))] = False,
) -> None:
    """Command ``stop``."""
    if everything == bool(model):
        raise InvalidValue("MODEL", model, _("either a model or --all"))
    asyncio.run(_stop(reference(model)))


async def _stop(model: str) -> None:
    async with await Client.connect(config.load(), start=False) as client:
        loaded = (await client.properties()).get("LoadedModels", [])
        for name in [model] if model else [one.get("path") or one["name"] for one in loaded]:
            await client.unload(name)
