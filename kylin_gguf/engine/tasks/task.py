"""What the scheduler knows of a request."""

from __future__ import annotations

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
    prompt: list[int]
    next_token: int | None
    """The token to decode next; None while the prompt is being prefilled."""
    cancelled: bool

    @property
    def paused(self) -> bool:
        """Whether to leave this task out of the next step."""

    def started(self, cached: int) -> None:
        """A slot was found that holds ``cached`` tokens of the prompt."""

    def logits_ready(self, context: Context, slot: Slot, index: int) -> bool:
        """Use the logits of batch output ``index``; return whether the task is done."""

    def settle(self, context: Context, slot: Slot) -> bool:
        """Do what needs decodes of the task's own; return whether the task is done."""

    def finish(self, reason: EndReason, failure: KylinError | None = None) -> None:
        """End the task. Called exactly once."""
