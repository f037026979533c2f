"""The ``convert`` command: reads options, runs the pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kylin_convert import compare_cli, pipeline, source, view
from kylin_gguf import config
from kylin_gguf.translation import translate as _


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``; called through the entry point group ``kylin_gguf.commands``."""
    app.command(
        "convert",
        help=_("Convert a model to a small GGUF: importance matrix, quantisation, verification, manifest.")
        + "\n\n"
        + _("An interrupted conversion resumes when the same command is given again.")
        + "\n\n"
        + _("Example: kylin-gguf convert ./Qwen2.5-0.5B-Instruct --quant Q4_K_M -o qwen.gguf"),
    )(convert)
    compare_cli.register(app)


def convert(  # noqa: PLR0913, PLR0917 - one parameter for each option
    source_name: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help=_("A Hugging Face folder, a GGUF file, the name of an installed model, or a hub id."),
        ),
    ],
    quant: Annotated[
        str, typer.Option("--quant", "-q", help=_("One of llama.cpp's types, such as Q4_K_M, Q8_0 or F16."))
    ] = "Q4_K_M",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help=_("What to write. Default: NAME-QUANT.gguf here."))
    ] = None,
    force: Annotated[bool, typer.Option("--force", help=_("Replace the output if it exists."))] = False,
    keep: Annotated[bool, typer.Option("--keep", help=_("Keep the unquantised file in the cache."))] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help=_("Show the plan and stop."))] = False,
    as_json: Annotated[bool, typer.Option("--json", help=_("Print JSON objects, one a line."))] = False,
    calibration: Annotated[
        Path | None,
        typer.Option(help=_("Text to weigh the importance of weights with: .jsonl of messages, or plain.")),
    ] = None,
) -> None:
    """Command ``convert``."""
    settings = config.load()
    with view.terminable(), view.opened(as_json) as shown:
        opened = source.open_source(source_name, settings, shown.progress)
        target = output or Path(f"{Path(opened.name).name.removesuffix('.gguf')}-{quant.upper()}.gguf")
        request = pipeline.Request(opened, target, quant, force, keep, calibration)
        if dry_run:
            shown.plan(pipeline.plan(request, settings))
        else:
            shown.done(pipeline.convert(request, settings, shown.progress, shown.notice), target)
