"""How many of this machine's processors a model's threads can use to advantage."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

SYSTEM = Path("/sys/devices")
CGROUPS = Path("/sys/fs/cgroup")

SLOW = 0.5
"""Part of the largest capacity below which a core is left to others: the threads of a step wait for the
slowest."""


def useful_cores(system: Path = SYSTEM, cgroups: Path = CGROUPS) -> int:
    """Return how many threads can compute at once: one a fast physical core, within the cgroup's quota."""
    cores = physical_cores(fast(os.sched_getaffinity(0), system), system)
    return max(1, int(min(cores, cgroup_cores(cgroups))))


def fast(allowed: Iterable[int], system: Path = SYSTEM) -> set[int]:
    """Return the processors of ``allowed`` that are not of a slower kind than the others.

    Intel's hybrids list their performance cores (``cpu_core/cpus``, of perf's PMU); elsewhere, Arm's
    big.LITTLE among them, each processor may state its capacity (``cpu_capacity``, sysfs-devices-system-cpu).
    """
    processors = set(allowed)
    performance = processors & _listed(system / "cpu_core" / "cpus")
    if performance:
        return performance
    capacities = {cpu: _capacity(system, cpu) for cpu in processors}
    most = max(capacities.values(), default=0)
    return {cpu for cpu, capacity in capacities.items() if capacity >= SLOW * most}


def physical_cores(processors: Iterable[int], system: Path = SYSTEM) -> int:
    """Return how many physical cores ``processors`` are: SMT siblings share their arithmetic."""
    cores = set()
    for cpu in processors:
        siblings = system / "system" / "cpu" / f"cpu{cpu}" / "topology" / "thread_siblings_list"
        try:
            cores.add(siblings.read_text(encoding="ascii").strip())
        except OSError:
            cores.add(str(cpu))
    return len(cores)


def cgroup_cores(root: Path = CGROUPS, membership: Path = Path("/proc/self/cgroup")) -> float:
    """Return the CPU quota of this process's cgroup (v2), in cores; infinity without one."""
    try:
        own = membership.read_text(encoding="ascii").strip().rpartition("::")[2]
        quota, period = (root / own.lstrip("/") / "cpu.max").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return float("inf")
    return float("inf") if quota == "max" else int(quota) / int(period)


def _capacity(system: Path, cpu: int) -> int:
    try:
        text = (system / "system" / "cpu" / f"cpu{cpu}" / "cpu_capacity").read_text(encoding="ascii")
    except OSError:
        return 0
    return int(text)


def _listed(path: Path) -> set[int]:
    """Return the numbers of a list such as ``0-3,8``; none where there is no such file."""
    try:
        text = path.read_text(encoding="ascii").strip()
    except OSError:
        return set()
    numbers: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        numbers |= set(range(int(first), int(last or first) + 1))
    return numbers
