"""When a loaded model is placed anew, because there is less memory on its GPU than there was, or more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from kylin_gguf.offload.machine import GPU_MARGIN, Machine
from kylin_gguf.records import Placement

SHORT = GPU_MARGIN // 2
"""Free bytes of a GPU below which another program has taken what was left to it, and more. Half of what a
plan leaves: an estimate that is a little off is no shortage."""

TAKEN = 128 << 20
"""Bytes that must have gone since the model was loaded. Where the settings put more on a GPU than a plan
would, it is full from the start, and nothing has changed."""

LOOKS = 2
"""Looks in a row that must find a shortage: programs take and give back while they start."""

IDLE_S = 60.0
"""Seconds without a request before a model is moved for more speed."""

EVERY_S = 600.0
"""Seconds between two looks for the same reason, and from loading to the first one for more speed."""

GAIN = 1.25
"""How many times faster an answer has to become to be worth a reload."""

Reason = Literal["less", "more"]


@dataclass
class Watch:
    """One loaded model; times are of one clock, in seconds."""

    loaded_at: float
    _at_first: Mapping[str, int] = field(default_factory=dict)
    _short: int = 0
    _looked: dict[Reason, float] = field(default_factory=dict)

    def look(self, free: Mapping[str, int], now: float, idle_s: float) -> Reason | None:
        """Take in the bytes that are ``free`` on each GPU that the model uses, and how long nobody has asked
        it anything; return why it may be better placed anew, if so."""
        self._at_first = self._at_first or dict(free)
        short = any(
            now_free < SHORT and self._at_first.get(device, 0) - now_free >= TAKEN
            for device, now_free in free.items()
        )
        self._short = self._short + 1 if short else 0
        if self._short >= LOOKS and self._due("less", now, float("-inf")):
            return "less"
        if not short and idle_s >= IDLE_S and self._due("more", now, self.loaded_at):
            return "more"
        return None

    def _due(self, reason: Reason, now: float, first: float) -> bool:
        if now - self._looked.get(reason, first) < EVERY_S:
            return False
        self._looked[reason] = now
        return True


def without(machine: Machine, buffers: Mapping[str, Mapping[str, int]], private: int) -> Machine:
    """Return ``machine`` as it would be if a model were not loaded that has ``buffers`` on its devices (as
    ``LoadedModel``) and ``private`` bytes of RAM."""
    devices = tuple(
        replace(device, memory_free=device.memory_free + sum(buffers.get(device.name, {}).values()))
        if device.kind in ("gpu", "igpu")
        else device
        for device in machine.devices
    )
    return replace(machine, memory=machine.memory + private, devices=devices)


def worthwhile(reason: Reason, present: Placement, wanted: Placement, *, named: bool) -> bool:
    """Return whether ``wanted`` should take the place of ``present``. Where GPUs are ``named`` by the
    settings, they are used as far as they have room, and more of the model on them is the gain."""
    if reason == "less":
        return _on_devices(wanted) < _on_devices(present)
    if not named:
        return wanted.decode >= GAIN * present.decode
    moved = (wanted.gpu_layers - wanted.ram_experts) - (present.gpu_layers - present.ram_experts)
    return moved > 0 and (moved * 8 >= present.layers or not wanted.is_partial)


def _on_devices(placement: Placement) -> int:
    return sum(share.memory for share in placement.shares)
