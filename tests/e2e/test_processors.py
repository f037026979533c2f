"""Every processor with AVX2 computes the same, to the last bit: from Haswell and Zen on."""

from __future__ import annotations

import asyncio
import ctypes
import platform
from dataclasses import replace
from pathlib import Path

import gguf
import pytest

from bench import cpu_kernels, cpu_variants, products
from kylin_gguf import config, native
from kylin_gguf.records import InstalledModel, Settings

pytestmark = [
    pytest.mark.native,
    pytest.mark.skipif(platform.machine() != "x86_64", reason="others have libraries of their own"),
]


@pytest.fixture(scope="module")
def directory() -> Path:
    return native.find(config.load()).directory


@pytest.fixture(scope="module")
def libraries(directory: Path) -> dict[str, ctypes.CDLL]:
    found = cpu_kernels.runnable(directory)
    alike = {name: library for name, library in found.items() if name not in cpu_kernels.BEFORE_AVX2}
    if len(alike) < 2:
        pytest.skip("this processor runs at most one of the libraries that compute alike")
    return alike


@pytest.mark.parametrize("shape", products.SHAPES)
@pytest.mark.parametrize("kind", products.TYPES)
def test_they_multiply_alike(
    kind: gguf.GGMLQuantizationType,
    shape: tuple[int, int],
    directory: Path,
    libraries: dict[str, ctypes.CDLL],
) -> None:
    base = ctypes.CDLL(str(directory / "libggml-base.so"))
    weights, tokens = products.numbers(kind, shape)
    for count in (1, 64):
        found = {
            name: products.Multiplier(base, library)(kind, weights, tokens[:count])[0].tobytes()
            for name, library in libraries.items()
        }
        assert len(set(found.values())) == 1, f"{count} tokens: {found.keys()}"


def test_they_round_attend_and_activate_alike(libraries: dict[str, ctypes.CDLL]) -> None:
    for name, shares in cpu_kernels.measure(libraries).items():
        assert not any(shares.values()), f"{name}: {shares}"


def test_they_answer_alike(
    libraries: dict[str, ctypes.CDLL],
    directory: Path,
    tmp_path: Path,
    settings: Settings,
    model: InstalledModel,
) -> None:
    texts = {}
    for name in libraries:
        only = cpu_variants.alone(directory, name, tmp_path / name)
        texts[name] = asyncio.run(cpu_variants.greedy_text(replace(settings, native_dirs=(only,)), model))
    assert len(set(texts.values())) == 1, texts
