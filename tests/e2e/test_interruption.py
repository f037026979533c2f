"""Which batches of a real model can be interrupted, and what is left of one that was."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kylin_gguf import config, native
from kylin_gguf.records import InstalledModel, Placement

native.load(config.load())

from kylin_gguf.engine import context as subject  # noqa: E402 - it imports the bindings, which need the libraries
from kylin_gguf.engine.context import Context  # noqa: E402
from kylin_gguf.engine.model import LogTail, Model  # noqa: E402

pytestmark = pytest.mark.native


@pytest.fixture
def context(model: InstalledModel) -> Iterator[Context]:
    placement = Placement(gpu_layers=0, context_length=512, threads=2, sequences=1, mode="instant")
    tail = LogTail()
    loaded = Model(model.path, placement, tail, lambda _: None)
    context = Context(loaded, placement, tail)
    yield context
    context.close()
    loaded.close()


def asked(context: Context, tokens: int, *, stop: bool = False) -> tuple[bool, int]:
    """Decode ``tokens``; return whether that came to its end, and how often it was asked to stop."""
    batch = context.new_batch()
    batch.extend([1] * (tokens - 1), 0, 0)
    batch.add(1, tokens - 1, 0, logits=True)
    times = 0

    def interrupted() -> bool:
        nonlocal times
        times += 1
        return stop

    done = context.decode(batch, interrupted)
    context.truncate(0, 0)
    return done, times


def test_only_a_batch_that_takes_long_is_asked_to_stop(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "INTERRUPT_SECONDS", 0.0)
    monkeypatch.setattr(subject, "LONG_SECONDS", 1e-9)
    assert asked(context, 20)[1] > 100, "at each node of the graph"
    monkeypatch.setattr(subject, "LONG_SECONDS", 1e9)
    assert asked(context, 20) == (True, 0)


def test_nothing_is_known_before_the_first_batch_which_is_therefore_asked(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "INTERRUPT_SECONDS", 0.0)
    monkeypatch.setattr(subject, "LONG_SECONDS", 1e9)
    assert asked(context, 2)[1] > 0
    assert asked(context, 2)[1] > 0, "two tokens tell nothing of longer batches"


def test_what_was_interrupted_can_be_decoded_again(context: Context) -> None:
    assert asked(context, 400, stop=True) == (False, 1)
    assert asked(context, 400)[0]
