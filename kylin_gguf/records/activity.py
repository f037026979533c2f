"""What a model is doing, and what it has done since it was loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from kylin_gguf.records.power import SavingState


@dataclass(frozen=True)
class Activity:
    """A worker's count at one moment. What is named as a number of things done only grows: a rate is the
    difference of two readings, over that of their times."""

    time: float = 0.0
    """When it was counted: seconds of CLOCK_MONOTONIC, which all processes share."""
    running: int = 0
    """Requests that have a place in the KV cache."""
    waiting: int = 0
    """Requests in the line for one."""
    cells: int = 0
    """KV cells there are; 0 for a model that embeds."""
    cells_used: int = 0
    """KV cells that hold a token, of running requests and of prefixes that are kept."""
    parked: int = 0
    """Bytes of memory outside the KV cache that hold prefixes."""
    requests: int = 0
    """Requests that got a place. One that was displaced counts again."""
    cache_hits: int = 0
    """How many of these began with something that was known."""
    cached_tokens: int = 0
    """Tokens of prompts that did not have to be computed."""
    prompt_tokens: int = 0
    """Tokens of prompts that were computed."""
    generated_tokens: int = 0
    """Tokens that were drawn."""
    prompt_s: float = 0.0
    """Seconds in decodes that computed prompts. Those that also went on with answers count in both."""
    generated_s: float = 0.0
    """Seconds in decodes that went on with answers."""
    threads: int = 0
    """Of the processor that the last step had; 0 for a model that embeds."""
    saving: SavingState = "off"
    energy_j: float = 0.0
    """Joules that the meter in use counted: what the processor packages took, or the whole machine from its
    battery, everything else that ran included. 0 where there is no meter that may be read."""
    device_free: Mapping[str, int] = field(default_factory=dict)
    """Bytes that are free now on each GPU that the model uses, by the device's name."""
    texts: int = 0
    """Texts turned into vectors, or looked at for the command that they ask for."""

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object of all fields."""
        return asdict(self)
