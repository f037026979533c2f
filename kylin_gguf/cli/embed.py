"""``embed``: vectors of texts, for searching and comparing."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from kylin_gguf import config
from kylin_gguf.bus.client import Client
from kylin_gguf.cli import given, output
from kylin_gguf.cli.models import AsJson, Model, reference
from kylin_gguf.errors import InvalidValue
from kylin_gguf.translation import translate as _


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command(
        "embed",
        help=_("Turn texts into vectors of length 1: the dot product of two says how alike they are.")
        + "\n\n"
        + _("Prints the numbers of one text on a line.")
        + "\n\n"
        + _(
            'Examples: kylin-gguf embed --json "天气怎么样" "今天下雨吗" — kylin-gguf embed --lines texts.txt'
        ),
    )(embed)


def embed(
    texts: Annotated[list[str] | None, typer.Argument(help=_("The texts."), show_default=False)] = None,
    lines: Annotated[
        str,
        typer.Option(
            metavar="FILE", help=_("Read texts from a file, one a line; - is stdin."), show_default=False
        ),
    ] = "",
    model: Model = "",
    as_json: AsJson = False,
) -> None:
    """Command ``embed``."""
    if bool(texts) == bool(lines):
        raise InvalidValue("embed", lines, _("either texts or --lines FILE"))
    asyncio.run(_embed(texts or given.lines(lines), reference(model), as_json))


async def _embed(texts: list[str], model: str, as_json: bool) -> None:
    """Print in order, as results come."""
    async with await Client.connect(config.load()) as client:
        remaining = iter(texts)
        async for vector in client.embed(texts, model):
            text = next(remaining)
            if as_json:
                output.print_json({"text": text, "vector": vector})
            else:
                print(*(f"{number:.8g}" for number in vector), flush=True)
