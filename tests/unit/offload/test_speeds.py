"""How speeds are kept; the measuring itself is pretended."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from kylin_gguf import config
from kylin_gguf.offload import speed, speeds
from kylin_gguf.records import Device, Settings

CPU = Device("CPU", "EPYC", "cpu", 1 << 34, 1 << 33)
CARD = Device("CUDA0", "card", "gpu", 1 << 33, 1 << 33)
PRETENDED = Device("Vulkan0", "llvmpipe (LLVM 15)", "gpu", 1 << 31, 1 << 31)


class Meter:
    """Measures nothing, and notes what it was asked for; does not know ``broken`` devices."""

    def __init__(self, *broken: str) -> None:
        self.asked: list[tuple[int, list[str]]] = []
        self._broken = broken
        self.bandwidth, self.layer = 13e9, 2e-5

    def __call__(self, _: Settings, threads: int, names: Sequence[str]) -> dict[str, speeds.Figures]:
        self.asked.append((threads, list(names)))
        figures = speeds.Figures(self.bandwidth, 1e11, layer=self.layer)
        return {name: figures for name in names if name not in self._broken}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return config.load({"cache_dir": tmp_path}, {})


def test_each_device_is_measured_and_then_known(settings: Settings) -> None:
    meter = Meter()
    for _ in range(2):
        cpu, card, pretended = speeds.known(settings, "1", 2, (CPU, CARD, PRETENDED), meter)
    assert meter.asked == [(2, ["CPU", "CUDA0"])], "or what software pretends was measured"
    assert (cpu.bandwidth, cpu.compute) == (13e9 / speed.READ, 1e11)
    assert card.bandwidth == cpu.bandwidth and pretended.bandwidth == 0
    assert (cpu.layer, card.layer, pretended.layer) == (2e-5, 2e-5, 0)
    assert (cpu.memory_free, cpu.name) == (CPU.memory_free, "CPU")


def test_another_build_or_number_of_threads_is_measured_anew(settings: Settings) -> None:
    meter = Meter()
    speeds.known(settings, "1", 2, (CPU, CARD), meter)
    speeds.known(settings, "1", 4, (CPU, CARD), meter)
    speeds.known(settings, "2", 4, (CPU, CARD), meter)
    assert meter.asked == [(2, ["CPU", "CUDA0"]), (4, ["CPU"]), (4, ["CPU", "CUDA0"])]


def test_what_cannot_be_measured_is_unknown_and_not_tried_again(settings: Settings) -> None:
    meter = Meter("CUDA0")
    for _ in range(2):
        _, card = speeds.known(settings, "1", 2, (CPU, CARD), meter)
        assert (card.bandwidth, card.compute) == (0, 0)
    assert len(meter.asked) == 1


def test_a_busy_first_look_is_made_good_later_and_a_third_is_the_last(settings: Settings) -> None:
    meter = Meter()
    seen, layers = [], []
    for meter.bandwidth, meter.layer in ((2e9, 3e-2), (20e9, 0.0), (10e9, 1e-5), (40e9, 1e-6)):
        (cpu,) = speeds.known(settings, "1", 2, (CPU,), meter)
        seen.append(cpu.bandwidth * speed.READ)
        layers.append(cpu.layer)
        (path,) = (settings.cache_dir / "speeds").iterdir()
        os.utime(path, (0, 0))
    assert seen == pytest.approx([2e9, 20e9, 20e9, 20e9])
    assert layers == [3e-2, 3e-2, 1e-5, 1e-5], "the least that is known"
    assert len(meter.asked) == 3


@pytest.mark.parametrize("content", ["", "[]", '{"bandwidth": -1, "compute": 1}', '{"bandwidth": "x"}'])
def test_a_file_of_any_content_is_measured_over(settings: Settings, content: str) -> None:
    speeds.known(settings, "1", 2, (CPU,), Meter())
    (path,) = (settings.cache_dir / "speeds").iterdir()
    path.write_text(content, encoding="utf-8")
    meter = Meter()
    (cpu,) = speeds.known(settings, "1", 2, (CPU,), meter)
    assert meter.asked and cpu.compute == 1e11
