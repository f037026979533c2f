"""The step of a conversion: measure, choose, show what it costs, and write the model without the blocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from kylin_convert import calibration, work
from kylin_convert.calibration import Corpus
from kylin_convert.pruning import architectures, cost, influence, rewrite
from kylin_convert.pruning.architectures import Stack
from kylin_convert.pruning.choice import candidates
from kylin_convert.pruning.cost import Cost, Meter
from kylin_convert.pruning.influence import Influence
from kylin_convert.source import Source
from kylin_convert.tools import Toolbox
from kylin_gguf.errors import Cancelled, InvalidValue
from kylin_gguf.gguf_info import GgufInfo
from kylin_gguf.records import ProgressCallback

OPTION, LIMIT_OPTION = "--prune-layers", "--prune-limit"
AUTO = "auto"
DEFAULT_LIMIT = 0.15
"""Nats of KL divergence: about what Q2_K costs a model of 0.5 billion weights (docs/calibration.md)."""


@dataclass(frozen=True)
class Pruning:
    """How many blocks to cut; 0 for as many as cost no more than ``limit``, a KL divergence in nats on each
    held-out text. ``accept`` is shown the model and what the loss costs, and says whether it is to be."""

    count: int
    limit: float
    accept: Callable[[GgufInfo, Cost], bool]

    @classmethod
    def parse(cls, count: str, limit: float, accept: Callable[[GgufInfo, Cost], bool]) -> Pruning | None:
        """Return what the options say, None where nothing is to be cut.

        Raises:
            InvalidValue: ``count`` is neither a number from 1 on nor ``auto``.
        """
        if not count:
            return None
        if count.casefold() == AUTO:
            return cls(0, limit, accept)
        if not (count.isascii() and count.isdecimal() and int(count)):
            raise InvalidValue(OPTION, count, f"a number of blocks from 1 on, or {AUTO}")
        return cls(int(count), limit, accept)


def check_source(source: Source, wanted: Pruning) -> None:
    """Refuse what cannot be cut before anything is written, as far as that can be told by then.

    Raises:
        UnsupportedModel: as ``architectures.check``.
    """
    if source.model:
        architectures.check(source.model, wanted.count)
    elif source.family:
        Stack(source.name, source.family.name, source.family.layers).check(wanted.count)


def prune(  # noqa: PLR0913, PLR0917 - what to cut, how much, where to, by what text, and who is told
    toolbox: Toolbox,
    model: GgufInfo,
    target: Path,
    wanted: Pruning,
    own: Path | None,
    progress: ProgressCallback,
) -> dict[str, Any]:
    """Write ``model`` without the blocks that it can best do without to ``target``, in the work directory.

    ``own`` is the user's calibration text, None for the shipped one.

    Returns:
        What the manifest says of it.

    Raises:
        UnsupportedModel: the architecture forbids it.
        InvalidValue: the limit is lower than what one block costs.
        Cancelled: what it costs was not accepted.
        KylinError: as ``influence.measure`` and ``cost.opened``.
    """
    architectures.check(model, wanted.count)
    corpus = calibration.from_file(own, model) if own else calibration.shipped(model)
    found = influence.measure(toolbox, model, corpus, progress)
    with cost.opened(toolbox, model, progress) as meter:
        tried = _try(meter, wanted, found, target)
    chosen = tried[-1]
    if not wanted.accept(model, chosen):
        raise Cancelled
    with work.blaming_full_disk(target, chosen.bytes):
        rewrite.write(model, chosen.removed, target, progress)
    return _describe(model, wanted, corpus, found, tried)


def _try(meter: Meter, wanted: Pruning, found: Influence, scratch: Path) -> list[Cost]:
    """Return what was measured, the one that is kept last.

    Raises:
        InvalidValue: nothing costs as little as is wanted.
    """
    if wanted.count:
        return _measured(meter, found, wanted.count, scratch)
    kept: list[Cost] = []
    for count in range(1, meter.model.layers):
        if not Stack.of(meter.model).runs(count):
            continue
        tried = _measured(meter, found, count, scratch)
        if tried[-1].divergence > wanted.limit:
            return [*tried, *kept] if kept else _refuse(wanted, tried[-1])
        kept = [*kept, *tried]
    return kept


def _measured(meter: Meter, found: Influence, count: int, scratch: Path) -> list[Cost]:
    """Return what it costs to lose ``count`` blocks, the cheapest set of them last."""
    tried = [meter.measure(removed, scratch) for removed in candidates(meter.model, found, count)]
    return sorted(tried, key=lambda one: one.divergence, reverse=True)


def _refuse(wanted: Pruning, least: Cost) -> NoReturn:
    blocks = ", ".join(map(str, least.removed))
    expected = f"at least {least.divergence:.3f}, which the loss of block {blocks} costs"
    raise InvalidValue(LIMIT_OPTION, f"{wanted.limit:g}", expected)


def _describe(
    model: GgufInfo, wanted: Pruning, corpus: Corpus, found: Influence, tried: Sequence[Cost]
) -> dict[str, Any]:
    return {
        "blocks": model.layers,
        "influence": [round(value, 6) for value in found.blocks],
        "corpus": corpus.name,
        "corpus_sha256": corpus.sha256,
        "tokens": found.tokens,
        "limit": None if wanted.count else wanted.limit,
        "tried": [one.to_json() for one in tried[:-1]],
        **tried[-1].to_json(),
    }
