"""The ``compare`` command: a table of how near files come to the one that they were made from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from kylin_convert import calibration, compare, plot, view
from kylin_convert.compare import Compared
from kylin_convert.divergence import Sampling
from kylin_gguf import catalogue, config
from kylin_gguf.gguf_info import GgufInfo, shards
from kylin_gguf.records import Settings
from kylin_gguf.store import Store
from kylin_gguf.translation import translate as _


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command(
        "compare",
        help=_("Compare quantised files with the one they were made from: KL divergence and perplexity.")
        + "\n\n"
        + _(
            "After ± is the standard error over the chunks of a text. Without --text, short texts of our own."
        )
        + "\n\n"
        + _("Example: kylin-gguf compare model-F16.gguf a.gguf b.gguf --text zh.txt --plot out.png"),
    )(run)


def run(  # noqa: PLR0913, PLR0917 - one parameter for each option
    reference: Annotated[
        str, typer.Argument(metavar="REFERENCE", help=_("The unquantised GGUF, or an installed model."))
    ],
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help=_("The files to judge."))],
    text: Annotated[
        list[Path] | None,
        typer.Option(help=_("Text in UTF-8 that no file was calibrated on. May be given several times.")),
    ] = None,
    context: Annotated[
        int, typer.Option(min=32, help=_("Tokens of a chunk; the second half of each is predicted."))
    ] = 512,
    chunks: Annotated[int, typer.Option(min=2, help=_("The most chunks to read of each text."))] = 20,
    plot_file: Annotated[
        Path | None,
        typer.Option("--plot", help=_("Draw size against divergence into this file (PNG, SVG or PDF).")),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help=_("Print JSON objects, one a line."))] = False,
) -> None:
    """Command ``compare``."""
    settings = config.load()
    if plot_file:
        plot.check(plot_file)
    known, *judged = [_model(name, settings) for name in (reference, *models)]
    texts = [calibration.read_text(path) for path in text or ()]
    texts = texts or [calibration.held_out(language) for language in calibration.LANGUAGES]
    found = []
    with view.terminable(), view.opened(as_json) as shown:
        for one in compare.compare(settings, known, judged, texts, Sampling(context, chunks), shown.progress):
            found.append(one)
            if as_json:
                print(json.dumps({"type": "compared", **one.to_json()}, ensure_ascii=False), flush=True)
    if not as_json:
        _print(found)
    if plot_file:
        plot.draw(found, plot_file)


def _model(name: str, settings: Settings) -> GgufInfo:
    return shards.read(Store(settings, catalogue.load(settings.catalogue)).resolve(name).path)


def _print(found: list[Compared]) -> None:
    what = (_("text"), _("file"), _("size"), _("bits"))
    measured = (_("perplexity"), _("KL divergence"), _("beside the first"), _("same likeliest token"))
    view.table(what + measured, [_row(one) for one in found])


def _row(one: Compared) -> tuple[str, ...]:
    values = one.quality.to_json()
    beside = one.beside_first
    name = one.model.path.name
    return (
        one.quality.text,
        _("{name} (reference)").format(name=name) if one.is_reference else name,
        view.size(one.model.file_size),
        f"{one.model.bits_per_weight:.2f}",
        view.plus_minus(values["perplexity"], 3),
        "" if one.is_reference else view.plus_minus(values["kl_divergence"], 5),
        f"{beside.value:+.5f} ± {beside.error:.5f}" if beside else "",
        "" if one.is_reference else view.percent(values["same_top"], 2),
    )
