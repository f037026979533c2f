"""A machine described in a file: what would somebody with other hardware get?

Format, all sizes and speeds as hardware is sold:

    cores: 6                 # physical, fast ones
    memory: 16               # GiB of RAM
    bandwidth: 51.2          # GB/s of RAM; optional, as all that follow
    processor: haswell       # llama.cpp's CPU plug-in; default: one that repacks nothing
    devices:
      - name: Vulkan0
        description: AMD Radeon RX 580
        kind: gpu            # or igpu, which shares the RAM
        memory: 8            # GiB
        free: 7.5            # GiB; default: nine tenths
        bandwidth: 256       # GB/s
        tflops: 6.2          # FP16 or FP32, whichever is faster, as the vendor states it
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from kylin_gguf.errors import ConfigError, near
from kylin_gguf.offload.machine import Machine
from kylin_gguf.records import Device, DeviceKind

_GIB = 1 << 30
_GB, _TERA = 1e9, 1e12
_REACHED = 0.4
"""Share of the stated arithmetic that matrix products of quantised weights reach."""
_FREE = 0.9
_RAM_FREE = 0.8
"""Of RAM, what a desktop leaves."""

_KINDS: tuple[DeviceKind, ...] = ("gpu", "igpu")
_MACHINE = {"cores": True, "memory": True, "bandwidth": False, "processor": False, "devices": False}
_DEVICE = {
    **dict.fromkeys(("name", "kind", "memory"), True),
    **dict.fromkeys(("description", "free", "bandwidth", "tflops"), False),
}
"""Entries, and whether they must be there."""


def read(path: Path) -> Machine:
    """Read a machine file.

    Raises:
        ConfigError: it cannot be read, or an entry is missing, unknown or of the wrong kind.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(str(path), "file", str(error).replace("\n", " ")) from error
    return parse(content, str(path))


def parse(content: object, origin: str) -> Machine:
    """Return the machine that the content of a file describes; raises ConfigError, which names ``origin``."""
    entries = _entries(content, _MACHINE, origin, "file")
    listed = entries.get("devices", [])
    if not isinstance(listed, list):
        raise ConfigError(origin, "devices", "not a list")
    devices = tuple(_device(item, origin, f"devices[{number}]") for number, item in enumerate(listed))
    memory = _number(entries, "memory", origin)
    return Machine(
        cores=max(int(_number(entries, "cores", origin)), 1),
        memory=int(memory * _GIB * _RAM_FREE),
        devices=devices,
        processor=f"cpu-{entries.get('processor', '')}",
        bandwidth=_number(entries, "bandwidth", origin) * _GB,
    )


def _device(content: object, origin: str, where: str) -> Device:
    entries = _entries(content, _DEVICE, origin, where)
    kind = next((known for known in _KINDS if known == entries["kind"]), None)
    if kind is None:
        raise ConfigError(origin, f"{where}.kind", f"'{entries['kind']}' is not one of {', '.join(_KINDS)}")
    memory = _number(entries, "memory", origin, where)
    free = _number(entries, "free", origin, where) or memory * _FREE
    return Device(
        name=str(entries["name"]),
        description=str(entries.get("description", entries["name"])),
        kind=kind,
        memory_total=int(memory * _GIB),
        memory_free=int(min(free, memory) * _GIB),
        bandwidth=_number(entries, "bandwidth", origin, where) * _GB,
        compute=_number(entries, "tflops", origin, where) * _TERA * _REACHED,
    )


def _entries(content: object, known: Mapping[str, bool], origin: str, where: str) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise ConfigError(origin, where, "not a mapping of names to values")
    for name in content:
        if name not in known:
            hint = ", ".join(near(str(name), known)) or ", ".join(known)
            raise ConfigError(origin, str(name), f"unknown entry; did you mean {hint}?")
    for name, needed in known.items():
        if needed and name not in content:
            raise ConfigError(origin, where, f"'{name}' is missing")
    return content


def _number(entries: Mapping[str, Any], name: str, origin: str, where: str = "") -> float:
    """Return a number that is not negative; 0 for an entry that is not there."""
    value = entries.get(name, 0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1 << 30:
        raise ConfigError(origin, f"{where}.{name}".lstrip("."), f"'{value}' is not a number from 0 on")
    return float(value)
