"""What the machine has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

DeviceKind = Literal["cpu", "gpu", "igpu", "accel"]


@dataclass(frozen=True)
class Device:
    """One device of a ggml back end (ggml_backend_dev_get_props); memory in bytes, 0 where unknown."""

    name: str
    description: str
    kind: DeviceKind
    memory_total: int
    memory_free: int


@dataclass(frozen=True)
class FailedPlugin:
    """A back end whose library is there but gives no device, e.g. ``vulkan``. Where it does not load at all,
    ``reason`` is llama.cpp's."""

    name: str
    reason: str
