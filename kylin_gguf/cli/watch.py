"""What the service is doing, looked at again and again: for ``status --watch`` and ``monitor``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kylin_gguf import config
from kylin_gguf.bus.client import Client
from kylin_gguf.errors import ServiceUnavailable

Look = dict[str, Any]
"""The Manager's properties by their names, and ``Statistics`` as GetStatistics has them."""


async def look() -> Look | None:
    """Return what the service tells now; None when it does not run. It is not started."""
    try:
        client = await Client.connect(config.load(), start=False)
    except ServiceUnavailable:
        return None
    async with client:
        return await client.properties() | {"Statistics": await client.statistics()}


@dataclass(frozen=True)
class Speed:
    """Tokens a second of all requests together, while there were any: 0 where there were none."""

    answers: float = 0.0
    prompts: float = 0.0
    watts: float = 0.0
    """What the meter in use counted, which is the same for all models; 0 where there is none."""

    def __add__(self, other: Speed) -> Speed:
        watts = max(self.watts, other.watts)
        return Speed(self.answers + other.answers, self.prompts + other.prompts, watts)


class Speeds:
    """Makes speeds of counters: each model's since the look before."""

    def __init__(self) -> None:
        self._before: dict[int, Mapping[str, Any]] = {}

    def since_last(self, statistics: Mapping[str, Any]) -> dict[int, Speed]:
        """Return the speed of each model by its process. A model that was not there before has none yet."""
        models = {model["pid"]: model for model in statistics["models"]}
        found = {pid: _speed(self._before.get(pid, model), model) for pid, model in models.items()}
        self._before = models
        return found


def _speed(before: Mapping[str, Any], now: Mapping[str, Any]) -> Speed:
    def rate(count: str, seconds: str) -> float:
        took = now[seconds] - before[seconds]
        return (now[count] - before[count]) / took if took > 0 else 0.0

    watts = max(rate("energy_j", "time"), 0.0)  # a change of the meter begins anew
    return Speed(rate("generated_tokens", "generated_s"), rate("prompt_tokens", "prompt_s"), watts)
