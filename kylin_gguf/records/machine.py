"""What the machine has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

_SOFTWARE = ("llvmpipe", "softpipe", "swiftshader")
DeviceKind = Literal["cpu", "gpu", "igpu", "accel", "remote"]
"""``remote``: an RPC worker lends it."""


@dataclass(frozen=True)
class Device:
    """One device of a ggml back end (ggml_backend_dev_get_props); memory in bytes, 0 where unknown.

    ``bandwidth`` is what of its memory it reads in a second, in bytes; ``compute`` the operations of a matrix
    product that it does in one, additions and multiplications counted apart; ``layer`` the seconds that
    a layer's operations take for one token when there is next to nothing to read. ``link`` is how many bytes
    a second get to a remote device, ``delay`` the seconds until it answers. 0: not known.

    ``plugin`` is llama.cpp's for it, such as ``cpu-haswell`` or ``vulkan``; ``features`` what that one states
    of itself (ggml_backend_get_features), such as ``AVX2`` or ``RVV_VLEN=256``. Empty: not known.
    """

    name: str
    description: str
    kind: DeviceKind
    memory_total: int
    memory_free: int
    bandwidth: float = 0.0
    compute: float = 0.0
    link: float = 0.0
    delay: float = 0.0
    layer: float = 0.0
    plugin: str = ""
    features: tuple[str, ...] = ()

    @property
    def software(self) -> bool:
        """Whether it only looks like a GPU: Mesa's and Google's drivers that compute on the processor."""
        return any(name in self.description.lower() for name in _SOFTWARE)


@dataclass(frozen=True)
class FailedPlugin:
    """A back end whose library is there but gives no device, e.g. ``vulkan``. Where it does not load at all,
    ``reason`` is llama.cpp's."""

    name: str
    reason: str
