"""Which blocks could go: those whose loss changes the hidden state least."""

from __future__ import annotations

from kylin_convert.pruning.architectures import Stack
from kylin_convert.pruning.influence import Influence
from kylin_gguf.gguf_info import GgufInfo


def candidates(model: GgufInfo, influence: Influence, count: int) -> list[tuple[int, ...]]:
    """Return sets of ``count`` blocks, one or two; ``architectures.check`` has passed ``model``.

    The first are the blocks with the least influence each (Men et al.), where all are of one kind. The second
    is the run with the least influence together, of those that leave every other block its kind (Gromov et
    al.). Neither is always the better one (docs/pruning.md), so what they cost has to be measured.
    """
    stack = Stack.of(model)
    start = min(stack.runs(count), key=lambda start: influence.of_run(start, count))
    run = tuple(range(start, start + count))
    if stack.period > 1:
        return [run]
    blocks = influence.blocks
    apart = tuple(sorted(sorted(range(len(blocks)), key=blocks.__getitem__)[:count]))
    return [apart] if apart == run else [apart, run]
