"""What is expected of a device, held against what one did."""

from __future__ import annotations

import pytest

from kylin_gguf.offload import speed
from kylin_gguf.offload.machine import Machine
from kylin_gguf.offload.plan import Request, plan
from kylin_gguf.records import Device

from .headers import dense

GIB = 1 << 30
H100 = Device("CUDA0", "NVIDIA H100 80GB HBM3", "gpu", 80 * GIB, 78 * GIB, bandwidth=2.2e12 / speed.READ)
"""With the bandwidth that was measured there: it follows from the 408 tokens a second that were expected."""


@pytest.mark.parametrize(
    ("layers", "read", "reached"),
    [(30, 96.6e6, 289), (28, 1154e6, 370), (28, 4622e6, 208)],
    ids=["SmolLM2 135M", "Qwen3 1.7B", "Qwen2.5 7B"],
)
def test_an_answer_s_speed_is_what_a_fast_card_reached_within_a_fifth(
    layers: int, read: float, reached: float
) -> None:
    """Tokens a second of llama-bench on an H100 (docs/native.md), and the bytes that each read. The reading
    alone would allow 23,000, 1,900 and 480."""
    model = dense(layers, layer_bytes=int(read / layers))
    placement = plan(model, Machine(16, 128 * GIB, (H100,)), Request(4096))
    assert placement.gpu_layers == layers + 1
    assert placement.decode == pytest.approx(reached, rel=0.2)


def test_what_was_measured_of_a_layer_counts_and_not_the_guess() -> None:
    processor = speed.of_processor(4, layer=1e-5)
    measured = Device("CUDA0", "card", "gpu", GIB, GIB, layer=2e-5)
    assert speed.of_device(measured, processor).layer == 2e-5
    lent = Device("RPC0[10.0.0.2:50052]", "lent", "remote", GIB, GIB)
    assert speed.of_device(lent, processor).layer == processor.layer


def test_many_narrow_layers_are_slower_than_few_wide_ones_of_the_same_size() -> None:
    machine = Machine(16, 128 * GIB, (H100,))
    few, many = (
        plan(dense(layers, layer_bytes=GIB // layers), machine, Request(4096)) for layers in (10, 40)
    )
    assert many.decode < few.decode
    assert many.prompt < few.prompt
