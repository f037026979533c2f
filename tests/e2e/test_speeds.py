"""The processor's speed as llama.cpp's own kernels have it."""

from __future__ import annotations

import pytest

from kylin_gguf.offload.speeds import measure
from kylin_gguf.records import Settings

pytestmark = pytest.mark.native


def test_the_processor_is_measured_and_what_is_not_there_left_out(settings: Settings) -> None:
    found = measure(settings, 1, ["CPU", "CUDA7"])
    assert set(found) == {"CPU"}
    bandwidth, compute, link, delay, layer = found["CPU"]
    assert 1e8 < bandwidth < 1e12, "bytes a second"
    assert 1e8 < compute < 1e14, "operations a second"
    assert 1e-6 < layer < 0.1, "seconds"
    assert link == delay == 0, "it is in this machine"
