"""How much memory there is, on machines described by a few files of proc and cgroup."""

from __future__ import annotations

from pathlib import Path

import pytest

from kylin_gguf import config
from kylin_gguf.errors import LibraryLoadFailed
from kylin_gguf.offload import machine
from kylin_gguf.offload.machine import available_memory, cgroup_memory, system_memory

GIB = 1 << 30


def group(directory: Path, limit: str, current: int, inactive: int) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "memory.max").write_text(f"{limit}\n", encoding="ascii")
    (directory / "memory.current").write_text(f"{current}\n", encoding="ascii")
    (directory / "memory.stat").write_text(f"anon 5\ninactive_file {inactive}\n", encoding="ascii")


@pytest.fixture
def membership(tmp_path: Path) -> Path:
    path = tmp_path / "membership"
    path.write_text("0::/user.slice/app.scope\n", encoding="ascii")
    return path


def test_the_tightest_of_the_cgroups_around_counts(tmp_path: Path, membership: Path) -> None:
    root = tmp_path / "cgroup"
    group(root / "user.slice" / "app.scope", "max", GIB, 0)
    assert cgroup_memory(root, membership) == float("inf")
    group(root / "user.slice", str(4 * GIB), 3 * GIB, GIB // 2)
    assert cgroup_memory(root, membership) == 4 * GIB - 3 * GIB + GIB // 2
    group(root / "user.slice" / "app.scope", str(GIB), 2 * GIB, 0)
    assert cgroup_memory(root, membership) == 0


def test_without_cgroups_or_with_broken_ones_there_is_no_limit(tmp_path: Path, membership: Path) -> None:
    assert cgroup_memory(tmp_path / "none", membership) == float("inf")
    assert cgroup_memory(tmp_path, tmp_path / "missing") == float("inf")
    broken = tmp_path / "user.slice" / "app.scope"
    group(broken, "many", 0, 0)
    assert cgroup_memory(tmp_path, membership) == float("inf")


def test_the_system_s_figure_is_what_programs_can_have(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 16 kB\nMemAvailable: 8 kB\n", encoding="ascii")
    assert system_memory(meminfo) == 8192
    meminfo.write_text("MemTotal: 16 kB\n", encoding="ascii")
    with pytest.raises(OSError):
        system_memory(meminfo)


def test_this_machine_has_some() -> None:
    assert 0 < available_memory() <= system_memory() + (1 << 30)


def test_libraries_that_do_not_answer_in_time_are_an_error_with_a_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(machine, "_PROBE_SECONDS", 0.01)
    with pytest.raises(LibraryLoadFailed, match=r"no answer within 0\.01 seconds"):
        machine.libraries(config.load())
