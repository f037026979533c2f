"""Every x86 processor computes the same, to the last bit."""

from __future__ import annotations

import asyncio
import ctypes
import hashlib
import itertools
import platform
from dataclasses import replace
from pathlib import Path

import gguf
import pytest

from bench import cpu_kernels, cpu_variants, products
from bench.divergence import Probe, Way, write_base
from kylin_gguf import config, native
from kylin_gguf.records import InstalledModel, Settings

pytestmark = [
    pytest.mark.native,
    pytest.mark.skipif(platform.machine() != "x86_64", reason="others have libraries of their own"),
]

TEXT = Path(__file__).parents[2] / "convert" / "kylin_convert" / "corpus" / "held-out-en.txt"


@pytest.fixture(scope="module")
def directory() -> Path:
    return native.find(config.load()).directory


@pytest.fixture(scope="module")
def libraries(directory: Path) -> dict[str, ctypes.CDLL]:
    found = cpu_kernels.runnable(directory)
    if len(found) < 2:
        pytest.skip("this processor runs one of the libraries")
    return found


CASES = (
    *itertools.product(products.TYPES, products.SHAPES),
    *itertools.product(products.K_TYPES, products.K_SHAPES),
)


@pytest.mark.parametrize(("kind", "shape"), CASES)
def test_they_multiply_alike(
    kind: gguf.GGMLQuantizationType,
    shape: tuple[int, int],
    directory: Path,
    libraries: dict[str, ctypes.CDLL],
) -> None:
    base = ctypes.CDLL(str(directory / "libggml-base.so"))
    weights, tokens = products.numbers(base, kind, shape)
    plain = {"x64"} if kind in products.K_TYPES else set()  # its kernels for k-quants are upstream's
    for count in (1, 64):
        found = {
            name: products.Multiplier(base, libraries[name])(kind, weights, tokens[:count])[0]
            for name in libraries.keys() - plain
        }
        one = next(iter(found.values()))
        unlike = [name for name, product in found.items() if product.tobytes() != one.tobytes()]
        assert not unlike, f"{count} tokens"


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


def test_they_and_the_c_library_read_a_text_alike(
    libraries: dict[str, ctypes.CDLL], directory: Path, tmp_path: Path, model: InstalledModel
) -> None:
    """Old processors get other mathematics of the C library's, too."""
    probe = Probe(TEXT, pieces=1)
    kept = set()
    for name, masked in itertools.product(libraries, ("", "glibc.cpu.hwcaps=-AVX512F,-AVX2,-FMA")):
        folder = tmp_path / name
        if not folder.exists():
            cpu_variants.alone(directory, name, folder)
        base = tmp_path / "base"
        write_base(Way(folder, model.path, environment={"GLIBC_TUNABLES": masked}), probe, base)
        kept.add(hashlib.sha256(base.read_bytes()).hexdigest())
    assert len(kept) == 1
