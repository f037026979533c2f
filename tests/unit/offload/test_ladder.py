"""Stepping down: in which order, and when at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from kylin_gguf.errors import (
    DeviceMissing,
    FileMissing,
    KylinError,
    LoadFailed,
    OutOfMemory,
    WorkerDied,
    WorkerHung,
)
from kylin_gguf.offload.ladder import ladder, worth_stepping_down
from kylin_gguf.offload.machine import Machine
from kylin_gguf.offload.plan import Request, plan
from kylin_gguf.offload.remembered import Remembered, key
from kylin_gguf.records import Device, Placement, Share

from .headers import dense

GIB = 1 << 30
MODEL = dense(24, layer_bytes=GIB // 24)
MACHINE = Machine(4, 64 * GIB, (Device("CUDA0", "card", "gpu", 24 * GIB, 24 * GIB),))
ON_GPU = Placement(5, 128, 1, layers=24, shares=(Share("CUDA0", 5, GIB),))
ON_CPU = Placement(0, 128, 1)


@pytest.mark.parametrize("wanted", [-1, 20])
def test_each_rung_takes_less_of_the_card_and_the_last_none(wanted: int) -> None:
    request = Request(4096, gpu_layers=wanted)
    placements = [plan(MODEL, MACHINE, rung) for rung in ladder(request, plan(MODEL, MACHINE, request))]
    used = [sum(share.memory for share in placement.shares) for placement in placements]
    assert used[0] > used[1] > used[2] > used[3] > 0 and not any(used[4:])
    assert [placement.kv_type for placement in placements] == ["f16"] * 3 + ["q8_0"] + ["f16"] * 2 + ["q8_0"]
    assert placements[-1].mode == "instant" and placements[-1].batch_size == 128


def test_on_the_cpu_there_are_two_more_steps() -> None:
    request = Request(4096)
    assert len(list(ladder(request, ON_CPU))) == 3


@pytest.mark.parametrize(
    ("error", "on_gpu", "on_cpu"),
    [
        (OutOfMemory("m", "no room"), True, True),
        (WorkerDied("m", "SIGKILL"), True, True),
        (WorkerDied("m", "SIGSEGV"), True, False),
        (WorkerDied("m", "SIGABRT", "what(): std::bad_alloc", no_memory=True), True, True),
        (WorkerHung("m", 180), True, False),
        (LoadFailed("m", "unknown architecture"), True, False),
        (DeviceMissing("RPC0[10.0.0.2:50052]", ("CPU",)), True, False),
        (FileMissing("m", "gone"), False, False),
    ],
)
def test_only_what_less_may_cure_is_worth_it(error: KylinError, on_gpu: bool, on_cpu: bool) -> None:
    assert worth_stepping_down(error, ON_GPU) is on_gpu
    assert worth_stepping_down(error, ON_CPU) is on_cpu


def test_what_worked_is_kept_for_a_day(tmp_path: Path) -> None:
    clock = [1000.0]
    kept = Remembered(tmp_path / "placements", lambda: clock[0])
    assert kept.rung("a") == 0
    kept.keep("a", 2)
    assert (kept.rung("a"), kept.rung("b")) == (2, 0)
    clock[0] += 24 * 3600
    assert kept.rung("a") == 0


@pytest.mark.parametrize("content", ["", "[]", '{"rung": "x", "until": 1e12}', '{"rung": -1, "until": 1e12}'])
def test_a_file_of_any_content_is_no_reason_to_fail(content: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(content, encoding="utf-8")
    assert Remembered(tmp_path).rung("a") == 0


def test_another_card_build_or_wish_is_remembered_apart(tmp_path: Path) -> None:
    other = (
        key(tmp_path, MACHINE, Request(8192)),
        key(tmp_path, Machine(4, GIB, (), build="2"), Request(4096)),
        key(tmp_path / "b", MACHINE, Request(4096)),
    )
    own = key(tmp_path, MACHINE, Request(4096))
    assert own not in other and len(set(other)) == 3
    assert own == key(tmp_path, Machine(8, GIB, MACHINE.devices), Request(4096)), "free RAM does not matter"
