"""Which processors count, on machines described by a few files of sysfs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kylin_gguf.offload.processors import cgroup_cores, fast, physical_cores, useful_cores


def processor(system: Path, number: int, **facts: str) -> None:
    directory = system / "system" / "cpu" / f"cpu{number}"
    (directory / "topology").mkdir(parents=True)
    for name, text in facts.items():
        where = directory / "topology" if name.startswith("thread") else directory
        (where / name).write_text(text + "\n", encoding="ascii")


def test_threads_of_one_core_count_once(tmp_path: Path) -> None:
    for number in range(8):
        pair = number % 4
        processor(tmp_path, number, thread_siblings_list=f"{pair},{pair + 4}")
    assert physical_cores(range(8), tmp_path) == 4
    assert physical_cores([0, 4, 1], tmp_path) == 2


def test_efficiency_cores_of_an_intel_hybrid_are_left_to_others(tmp_path: Path) -> None:
    (tmp_path / "cpu_core").mkdir()
    (tmp_path / "cpu_core" / "cpus").write_text("0-3,8\n", encoding="ascii")
    assert fast(range(12), tmp_path) == {0, 1, 2, 3, 8}
    assert fast([4, 5], tmp_path) == {4, 5}, "all that we may use"


def test_little_cores_of_an_arm_board_are_left_to_others(tmp_path: Path) -> None:
    for number, capacity in enumerate([381, 381, 381, 381, 914, 914, 914, 1024]):
        processor(tmp_path, number, cpu_capacity=str(capacity))
    assert fast(range(8), tmp_path) == {4, 5, 6, 7}
    assert fast(range(4), tmp_path) == {0, 1, 2, 3}


def test_a_machine_that_says_nothing_uses_all(tmp_path: Path) -> None:
    assert fast(range(4), tmp_path) == {0, 1, 2, 3}
    assert physical_cores(range(4), tmp_path) == 4


@pytest.mark.parametrize(
    ("limit", "cores"), [("max 100000", float("inf")), ("150000 100000", 1.5), ("", float("inf"))]
)
def test_the_quota_of_the_cgroup(limit: str, cores: float, tmp_path: Path) -> None:
    (tmp_path / "user.slice").mkdir()
    (tmp_path / "user.slice" / "cpu.max").write_text(limit + "\n", encoding="ascii")
    membership = tmp_path / "membership"
    membership.write_text("0::/user.slice\n", encoding="ascii")
    assert cgroup_cores(tmp_path, membership) == cores


def test_the_real_machine_has_at_least_one_and_no_more_than_it_may_use() -> None:
    assert 1 <= useful_cores() <= len(os.sched_getaffinity(0))
