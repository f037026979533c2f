"""A process's memory, private and mapped."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

from kylin_gguf.engine.memory import ProcessMemory, memory_of

STATUS = "VmRSS:\t 700 kB\nRssAnon:\t 400 kB\nRssFile:\t 200 kB\nRssShmem:\t 100 kB\nThreads:\t3\n"


def test_the_figures_of_a_status_file(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "status").write_text(STATUS)
    assert memory_of(7, tmp_path) == ProcessMemory(700 << 10, 400 << 10, 300 << 10)


def test_a_process_that_is_gone_or_a_zombie_has_none(tmp_path: Path) -> None:
    (tmp_path / "8").mkdir()
    (tmp_path / "8" / "status").write_text("Name:\tpython3\nState:\tZ (zombie)\n")
    assert memory_of(7, tmp_path) == memory_of(8, tmp_path) == ProcessMemory(0, 0, 0)


def test_private_grows_with_what_is_allocated_and_mapped_with_files(tmp_path: Path) -> None:
    size = 64 << 20
    before = memory_of(os.getpid())
    block = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    block.write(b"\1" * size)
    path = tmp_path / "weights"
    path.write_bytes(b"\1" * size)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        assert sum(mapped[:: mmap.PAGESIZE]) == size // mmap.PAGESIZE
        after = memory_of(os.getpid())
    block.close()
    assert after.private - before.private > size // 2
    assert after.mapped - before.mapped > size // 2
    assert after.resident == after.private + after.mapped
