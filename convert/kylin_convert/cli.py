"""The ``convert`` command: reads options, runs the pipeline."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from kylin_convert import adapter_cli, compare_cli, estimate, pipeline, pruning, publish, source, view
from kylin_convert.card import write as write_card
from kylin_convert.quantise import Recipe
from kylin_convert.splitting import Limit
from kylin_gguf import catalogue, config
from kylin_gguf.errors import InvalidValue
from kylin_gguf.gguf_info import GgufInfo, shards
from kylin_gguf.records import Settings
from kylin_gguf.translation import translate as _

_QUANTISED = re.compile(r"[-.](I?Q\d\w*|B?F16|F32)$", re.IGNORECASE)


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
    adapter_cli.register(app)
    compare_cli.register(app)


def convert(  # noqa: PLR0913, PLR0917 - one parameter for each option
    source_name: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help=_(
                "A folder with a checkpoint or a LoRA adapter, a GGUF file, the name of an installed model, "
                "or a repository: owner/name, owner/name@revision, modelscope:owner/name."
            ),
        ),
    ],
    quant: Annotated[
        str,
        typer.Option(
            "--quant",
            "-q",
            help=_(
                "One of llama.cpp's types, such as Q4_K_M, Q8_0 or F16. Default: the catalogue's, or Q4_K_M."
            ),
            show_default=False,
        ),
    ] = "",
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
    imatrix: Annotated[
        Path | None, typer.Option(help=_("An importance matrix of this model, in GGUF form."))
    ] = None,
    tensor_type: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN=TYPE",
            help=_("Another type for tensors whose names a regular expression is found in; repeatable."),
        ),
    ] = None,
    output_type: Annotated[
        str, typer.Option(metavar="TYPE", help=_("The type of the output matrix."), show_default=False)
    ] = "",
    embedding_type: Annotated[
        str, typer.Option(metavar="TYPE", help=_("The type of the token embeddings."), show_default=False)
    ] = "",
    split_max_size: Annotated[
        str,
        typer.Option(
            metavar="N[M|G]",
            help=_("Cut the result into files with so many bytes of weights at most, such as 2G."),
            show_default=False,
        ),
    ] = "",
    split_max_tensors: Annotated[
        int,
        typer.Option(
            min=0, metavar="N", help=_("Cut the result into files of so many tensors."), show_default=False
        ),
    ] = 0,
    prune_layers: Annotated[
        str,
        typer.Option(
            pruning.OPTION,
            metavar="N|auto",
            help=_("Cut the N blocks that matter least; auto: as many as cost no more than --prune-limit."),
            show_default=False,
        ),
    ] = "",
    prune_limit: Annotated[
        float,
        typer.Option(
            pruning.LIMIT_OPTION, min=0, help=_("KL divergence that auto may cost on any held-out text.")
        ),
    ] = pruning.DEFAULT_LIMIT,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help=_("Cut the blocks without asking, whatever it costs."))
    ] = False,
    card: Annotated[
        bool, typer.Option("--card", help=_("Write a model card with what was measured beside the file."))
    ] = False,
    upload: Annotated[
        str,
        typer.Option(
            metavar="OWNER/NAME",
            help=_("Put file, manifest and card into a repository of the hub; a new one is private."),
            show_default=False,
        ),
    ] = "",
) -> None:
    """Command ``convert``."""
    settings = config.load()
    quant = quant or _default_quantisation(source_name, settings)
    recipe = Recipe(quant, tuple(map(_override, tensor_type or ())), output_type, embedding_type)
    limit = Limit.parse(split_max_size, split_max_tensors)
    if prune_layers and not (yes or dry_run) and (as_json or not sys.stdin.isatty()):
        raise InvalidValue(pruning.OPTION, prune_layers, _("--yes beside it, where nobody can be asked"))
    with view.terminable(), view.opened(as_json) as shown:
        opened = source.open_source(source_name, settings, shown.progress, outline=dry_run)
        target = output or Path(
            f"{_stem(opened.name)}{'-pruned' if prune_layers else ''}-{quant.upper()}.gguf"
        )
        prune = pruning.Pruning.parse(prune_layers, prune_limit, _acceptance(shown, yes))
        request = pipeline.Request(opened, target, recipe, force, keep, calibration, imatrix, limit, prune)
        if dry_run:
            plan = pipeline.plan(request, settings)
            unquantised = opened.unquantised_bytes(plan.form) if plan.form else opened.size
            shown.plan(plan, estimate.seconds(plan.steps, plan.parameters, unquantised, settings))
        else:
            made = pipeline.convert(request, settings, shown.progress, shown.notice)
            target = target.with_name(made.output["name"])
            shown.done(made, target)
            if card:
                text = write_card(made, shards.read(target))
                target.with_name(f"{target.name}.md").write_text(text, encoding="utf-8")
            if upload:
                shown.notice(publish.upload(target, made, upload))


def _acceptance(shown: view.View, yes: bool) -> Callable[[GgufInfo, pruning.Cost], bool]:
    """Return what shows the cost of pruning, and asks unless ``yes`` was said beforehand."""

    def accept(model: GgufInfo, cost: pruning.Cost) -> bool:
        shown.pruned(model, cost)
        return yes or shown.ask(_("Cut them?"))

    return accept


def _default_quantisation(source_name: str, settings: Settings) -> str:
    """Return what the catalogue makes of this checkpoint."""
    models = catalogue.load(settings.catalogue).models
    return next((m.recipe.quantisation for m in models if m.recipe.original == source_name), "Q4_K_M")


def _stem(name: str) -> str:
    """Return the model's name in that of a source, without how a GGUF is quantised and cut."""
    return _QUANTISED.sub("", shards.SUFFIX.sub("", Path(name).name.removesuffix(".gguf")))


def _override(text: str) -> tuple[str, str]:
    pattern, equals, kind = text.rpartition("=")
    if not (pattern and equals and kind):
        raise InvalidValue("--tensor-type", text, "PATTERN=TYPE")
    return pattern, kind
