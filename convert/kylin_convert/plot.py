"""Draws a comparison with matplotlib, which is an extra and imported only when a plot is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from kylin_convert.compare import Compared
from kylin_gguf.errors import ExtraMissing, InvalidValue

_FORMATS = (".png", ".svg", ".pdf")
_PACKAGE = "matplotlib"


def check(path: Path) -> None:
    """Refuse at once what could not be drawn after an hour of computing.

    Raises:
        InvalidValue: no format has this ending.
        ExtraMissing: matplotlib is not installed.
    """
    if path.suffix.lower() not in _FORMATS:
        raise InvalidValue("--plot", str(path), ", ".join(f"*{ending}" for ending in _FORMATS))
    if find_spec(_PACKAGE) is None:
        raise ExtraMissing("--plot", _PACKAGE, "plot")


def draw(found: Sequence[Compared], path: Path) -> None:
    """Write size against KL divergence, a line for each text, to ``path``."""
    import matplotlib as mpl  # noqa: PLC0415

    mpl.use("agg")
    import matplotlib.pyplot as plt  # noqa: PLC0415

    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    for text in dict.fromkeys(one.quality.text for one in found):
        mine = [one for one in found if one.quality.text == text and not one.is_reference]
        mine.sort(key=lambda one: one.model.file_size)
        sizes = [one.model.file_size / 1e6 for one in mine]
        means = [one.quality.divergence.value for one in mine]
        errors = [one.quality.divergence.error for one in mine]
        axes.errorbar(sizes, means, yerr=errors, fmt="o-", capsize=3, label=text)
        for one, size, mean in zip(mine, sizes, means, strict=True):
            axes.annotate(
                one.model.path.stem, (size, mean), fontsize=7, xytext=(4, 4), textcoords="offset points"
            )
    axes.set(xlabel="MB", ylabel="KL divergence, nats a token")
    if all(one.is_reference or one.quality.divergence.value > 0 for one in found):
        axes.set_yscale("log")
    axes.legend()
    figure.savefig(path, dpi=150)
    plt.close(figure)
