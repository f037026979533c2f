"""A few points of what ``python -m tests.e2e.crash_safety`` does many times."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e import crash_safety

pytestmark = pytest.mark.native


@pytest.mark.parametrize("several", [False, True])
def test_killed_conversions_resume_to_the_same_file(tmp_path: Path, *, several: bool) -> None:
    random.seed(5)
    bench, wanted, seconds, _ = crash_safety.prepare(tmp_path, several=several)
    for _ in range(2):
        bench.clear()
        crash_safety.kill(bench, wanted, seconds)
    assert sum(bench.seen.values()) >= 2


def test_conversions_on_a_full_disk_resume_to_the_same_file(tmp_path: Path) -> None:
    if subprocess.run(["unshare", "-rm", "true"], check=False, capture_output=True).returncode:
        pytest.skip("this system lets nobody have a mount namespace of their own")
    command = [sys.executable, "-m", "tests.e2e.crash_safety", "--kills", "0", "--full-disks", "2"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "all 2 resumed" in done.stdout
