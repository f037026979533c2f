"""What the kernel tells of memory that programs wait for."""

from __future__ import annotations

from pathlib import Path

import pytest

from kylin_gguf.offload.pressure import memory_pressure

KERNEL = """\
some avg10=23.45 avg60=4.00 avg300=1.00 total=123456
full avg10=12.00 avg60=2.00 avg300=0.50 total=65432
"""


@pytest.mark.parametrize(
    ("content", "percent"), [(KERNEL, 23.45), ("", 0.0), ("full avg10=3.00 total=1\n", 0.0)]
)
def test_the_share_of_the_last_ten_seconds_is_read(content: str, percent: float, tmp_path: Path) -> None:
    path = tmp_path / "memory"
    path.write_text(content, encoding="ascii")
    assert memory_pressure(path) == percent


def test_a_kernel_without_it_knows_no_pressure(tmp_path: Path) -> None:
    assert memory_pressure(tmp_path / "missing") == 0.0
