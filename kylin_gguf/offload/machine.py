"""What this machine can give a model right now: processors, memory, accelerators."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from kylin_gguf import energy
from kylin_gguf.errors import LibraryLoadFailed, from_wire
from kylin_gguf.native import LoadedLibraries
from kylin_gguf.offload import lent, speeds
from kylin_gguf.offload.processors import CGROUPS, useful_cores
from kylin_gguf.records import Device, FailedPlugin, Power, Settings

GPU_MARGIN = 512 << 20
"""Device memory left for the desktop's compositor and for what the estimate misses."""

_PROBE_SECONDS = 60
_NOT_TOLD = Power()


@dataclass(frozen=True)
class Machine:
    """The facts a plan depends on. ``cores`` as ``useful_cores`` counts them; ``memory`` is what is available
    now, in bytes."""

    cores: int
    memory: int
    devices: tuple[Device, ...]
    failed: tuple[FailedPlugin, ...] = ()
    processor: str = ""
    """llama.cpp's plug-in for the CPU, such as ``cpu-haswell``."""

    build: str = ""
    """llama.cpp's release and commit."""
    bandwidth: float = 0.0
    compute: float = 0.0
    layer: float = 0.0
    """Of RAM and of the processor, as for a Device."""
    power: Power = _NOT_TOLD
    meter: str = ""
    """What measures energy here, as a plan names it; empty where nothing does."""

    @property
    def accelerators(self) -> tuple[Device, ...]:
        """The GPUs, and what other machines lend; not what only computes matrices for the CPU, as a BLAS."""
        return tuple(device for device in self.devices if device.kind in ("gpu", "igpu", "remote"))


def available_memory() -> int:
    """Return the bytes of RAM that can be used without swapping, page cache included, within the limits of
    this process's cgroups."""
    return int(min(system_memory(), cgroup_memory()))


def system_memory(meminfo: Path = Path("/proc/meminfo")) -> int:
    """Return MemAvailable in bytes."""
    for line in meminfo.read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"{meminfo} has no MemAvailable")


def cgroup_memory(root: Path = CGROUPS, membership: Path = Path("/proc/self/cgroup")) -> float:
    """Return how many bytes this process's cgroup (v2) may still take, and those that it is in; infinity
    without a limit. Pages of files that have not been used lately are given back first."""
    try:
        own = membership.read_text(encoding="ascii").strip().rpartition("::")[2].lstrip("/")
    except OSError:
        return float("inf")
    directory = root / own
    return min(map(_room, (directory, *directory.parents[: len(Path(own).parts)])), default=float("inf"))


def _room(cgroup: Path) -> float:
    try:
        limit = (cgroup / "memory.max").read_text(encoding="ascii").strip()
        if limit == "max":
            return float("inf")
        current = int((cgroup / "memory.current").read_text(encoding="ascii"))
        statistics = (cgroup / "memory.stat").read_text(encoding="ascii").splitlines()
        unused = next((int(line.split()[1]) for line in statistics if line.startswith("inactive_file ")), 0)
        return max(int(limit) - current + unused, 0)
    except (OSError, ValueError):
        return float("inf")


def libraries(settings: Settings) -> LoadedLibraries:
    """Return what loading llama.cpp gives, tried in a child, so that a broken driver cannot harm the caller;
    and what RPC workers lend.

    Raises:
        LibrariesMissing, LibraryLoadFailed: there are no libraries, or the child ended without an answer.
    """
    command = [sys.executable, "-P", "-m", "kylin_gguf.offload.list_devices"]
    environment = os.environ | {"KYLIN_GGUF_NATIVE_DIRS": os.pathsep.join(map(str, settings.native_dirs))}
    where = "; ".join(map(str, settings.native_dirs))
    try:
        child = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=_PROBE_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise LibraryLoadFailed(where, f"no answer within {error.timeout:g} seconds") from None
    if child.returncode != 0:
        last = (child.stderr.strip().splitlines() or [f"status {child.returncode}"])[-1]
        raise LibraryLoadFailed(where, last)
    answer = json.loads(child.stdout)
    if "error" in answer:
        raise from_wire(answer["error"])
    directory = Path(answer["directory"])
    remote, absent = lent.devices(settings.rpc_workers, directory)
    own = (Device(**item | {"features": tuple(item["features"])}) for item in answer["devices"])
    failed = (*(FailedPlugin(**item) for item in answer["failed"]), *absent)
    return LoadedLibraries(directory, answer["version"], answer["processor"], (*own, *remote), failed)


def probe(settings: Settings, power: Power = _NOT_TOLD) -> Machine:
    """Look at the machine. The first time, its devices are measured, which takes about a second each.
    ``power`` is what the desktop tells of it.

    Raises:
        LibrariesMissing, LibraryLoadFailed: as ``libraries`` does.
    """
    found = libraries(settings)
    cores = useful_cores()
    devices = speeds.known(settings, found.version, cores, found.devices)
    meter = energy.meter(on_battery=power.on_battery is True)
    processor = next((device for device in devices if device.kind == "cpu"), None)
    return Machine(
        cores=cores,
        memory=available_memory(),
        devices=devices,
        failed=found.failed,
        processor=found.processor,
        build=found.version,
        bandwidth=processor.bandwidth if processor else 0.0,
        compute=processor.compute if processor else 0.0,
        layer=processor.layer if processor else 0.0,
        power=power,
        meter=meter.name if meter else "",
    )
