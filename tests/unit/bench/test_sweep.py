"""What is swept and how it is judged; llama-bench itself is not run."""

from __future__ import annotations

import os

import pytest

from bench.offload.sweep import Point, Speeds, points, reached, repacks, told
from kylin_gguf.records import Placement, Share

from ..offload.headers import dense

ON_CPU = Placement(0, 4096, 2, mode="throughput", layers=30)
ON_GPU = Placement(12, 4096, 2, mode="instant", layers=30, shares=(Share("CUDA0", 12),))


def test_on_the_processor_threads_are_swept_with_and_without_repacked_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    tried = points(ON_CPU, 4, (), (), repacking=True)
    assert tried[0] == Point(2, 0, True), "the planner's choice is not the first"
    assert {(point.threads, point.repack) for point in tried} == {
        (threads, repack) for threads in (1, 2, 4, 8) for repack in (False, True)
    }
    assert len(tried) == len(set(tried)) and not any(point.layers for point in tried)


def test_on_devices_layers_are_swept_up_to_all_of_them() -> None:
    tried = points(ON_GPU, 4, (8, 16, 23, 31), ("CUDA0",), repacking=True)
    assert tried[0] == Point(2, 12, False, ("CUDA0",))
    assert {point.layers for point in tried if point.devices} == {8, 12, 16, 23, 31}
    assert any(not point.layers for point in tried)


def test_where_nothing_is_repacked_with_and_without_is_one_setting() -> None:
    assert repacks(dense(2), "cpu-zen4") and not repacks(dense(2, kind="Q4_1"), "cpu-zen4")
    tried = points(ON_CPU, 2, (), (), repacking=False)
    assert tried[0] == Point(2) and not any(point.repack for point in tried)
    assert len(tried) == len(set(tried))


def test_the_planner_s_choice_is_held_against_the_best_median() -> None:
    planned, better = Speeds([300, 300, 1], [50, 50, 1]), Speeds([300, 300, 900], [100, 100, 1])
    assert planned.seconds == pytest.approx(1 + 5)
    assert reached({Point(2): planned, Point(1): better}) == pytest.approx((1 + 2.5) / 6)
    assert reached({Point(1): better, Point(2): planned}) == 1


def test_devices_of_workers_are_counted_as_llama_bench_does() -> None:
    assert told(["RPC0[10.0.0.2:50052]", "RPC0[10.0.0.3:50052]"]) == ["RPC0", "RPC1"]
    assert told(["Vulkan0"]) == ["Vulkan0"]
