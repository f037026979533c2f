"""What the kernel says of other programs."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from kylin_gguf.engine.company import OtherPrograms

IDLE = "0.10 0.20 0.30 {runnable}/345 6789\n"


def test_what_others_use_is_everybodys_time_less_our_own(tmp_path: Path) -> None:
    stat, loadavg = tmp_path / "stat", tmp_path / "loadavg"
    fields = "cpu  {user} 0 0 9000 0 0 0 0 0 0\ncpu0 1 2 3\n"
    stat.write_text(fields.format(user=1000), encoding="ascii")
    loadavg.write_text(IDLE.format(runnable=1), encoding="ascii")
    clock, own = iter([0.0, 10.0, 10.0]), iter([0.0, 12.0, 12.0])
    others = OtherPrograms(str(stat), str(loadavg), lambda: next(clock), lambda: next(own))
    stat.write_text(fields.format(user=1000 + 2000), encoding="ascii")
    assert others.used() == pytest.approx((20.0 - 12.0) / 10.0), "hundredths of a second, as on every Linux"
    assert others.used() == 0.0, "no time has passed"


@pytest.mark.parametrize(("runnable", "running"), [(5, 3), (2, 0), (1, 0)])
def test_who_runs_now_is_everybody_but_our_own(tmp_path: Path, runnable: int, running: int) -> None:
    loadavg = tmp_path / "loadavg"
    loadavg.write_text(IDLE.format(runnable=runnable), encoding="ascii")
    assert OtherPrograms(loadavg=str(loadavg)).running(own=2) == running


def test_the_real_machine_can_be_asked() -> None:
    others = OtherPrograms()
    program = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        time.sleep(0.3)
        assert others.running(own=1) >= 1
        assert others.used() > 0.1
    finally:
        program.kill()
        program.wait()
