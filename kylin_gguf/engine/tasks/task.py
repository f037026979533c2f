"""What the scheduler knows of a request."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Protocol

from kylin_gguf.engine.context import Context
from kylin_gguf.engine.prefix_cache import Slot
from kylin_gguf.errors import KylinError
from kylin_gguf.frames import EndReason


class Priority(IntEnum):
    """Who goes first. Background work runs in what interactive requests leave."""

    INTERACTIVE = 0
    BACKGROUND = 1


class Task(Protocol):
    """A request in the scheduler's hands."""

    id: int
    priority: Priority
    tokens: list[int]
    """The prompt, and after it what the task has added: all of it goes through the model, in order."""
    cancelled: bool

    @property
    def room(self) -> int:
        """How many more tokens the task may add."""

    @property
    def paused(self) -> bool:
        """Whether to leave this task out of the next step."""

    def queued(self, position: int) -> None:
        """Note that the task has to wait; ``position`` 1 is next. Called when that changes."""

    def started(self, cached: int) -> None:
        """A slot was found that holds ``cached`` of the tokens. Called again after the task was displaced."""

    def logits_ready(self, context: Context, slot: Slot, index: int) -> bool:
        """Use the logits of batch output ``index``, which follow the last token; return whether the task is
        done. One that is not done has added a token."""

    def guess(self, limit: int) -> Sequence[int]:
        """Return at most ``limit`` tokens that may well follow ``tokens``: they are decoded together with the
        last token, and ``logits_ready`` is called once more behind each that is drawn."""

    def finish(self, reason: EndReason, failure: KylinError | None = None) -> None:
        """End the task. Called exactly once."""
