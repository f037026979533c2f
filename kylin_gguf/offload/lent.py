"""Devices that other machines lend, as the settings list them."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from kylin_gguf import plugins, rpc
from kylin_gguf.records import Device, FailedPlugin


def devices(addresses: Sequence[str], directory: Path) -> tuple[tuple[Device, ...], tuple[FailedPlugin, ...]]:
    """Ask all workers at once; return what they lend, and those that lend nothing with the reason.
    ``directory`` is where the RPC plug-in has to lie."""
    if not addresses:
        return (), ()
    if not (directory / rpc.PLUGIN).is_file():
        missing = f"{rpc.PLUGIN} is not in {directory} (not installed: the package kylin-gguf-engine-rpc)"
        return (), (FailedPlugin("rpc", missing),)
    with ThreadPoolExecutor(len(addresses)) as threads:
        answers = list(threads.map(_look, addresses))
    found = tuple(_device(lent) for answer in answers if isinstance(answer, tuple) for lent in answer)
    return found, tuple(answer for answer in answers if isinstance(answer, FailedPlugin))


def _look(address: str) -> tuple[rpc.LentDevice, ...] | FailedPlugin:
    try:
        lent = rpc.look(address)
    except OSError as error:
        return FailedPlugin(f"RPC[{address}]", str(error))
    return lent or FailedPlugin(f"RPC[{address}]", "it lends no device")


def _device(lent: rpc.LentDevice) -> Device:
    return Device(
        name=lent.name,
        description=f"lent by {lent.address}",
        kind="remote",
        memory_total=lent.memory_total,
        memory_free=lent.memory_free,
        plugin=plugins.name(Path(rpc.PLUGIN)),
    )
