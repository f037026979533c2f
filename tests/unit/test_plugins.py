"""Which files are plug-ins, and what is said of one that is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from kylin_gguf import plugins

LIBRARIES = ("libggml.so", "libggml-base.so", "libggml-cpu-zen4.so", "libggml-vulkan.so", "libllama.so")
MISSING = "cannot open shared object file: No such file or directory"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    for name in LIBRARIES:
        (tmp_path / name).touch()
    return tmp_path


def names(paths: list[Path]) -> list[str]:
    return [plugins.name(path) for path in paths]


def test_the_core_is_no_plugin_and_a_processor_no_accelerator(directory: Path) -> None:
    assert names(plugins.among(directory)) == ["cpu-zen4", "vulkan"]
    assert names(plugins.accelerators(directory)) == ["vulkan"]


def test_what_crashes_is_left_out_and_nothing_is_copied_otherwise(directory: Path) -> None:
    with plugins.without(directory, {"libggml-vulkan.so"}) as healthy:
        assert names(plugins.among(healthy)) == ["cpu-zen4"]
        assert (healthy / "libggml-cpu-zen4.so").samefile(directory / "libggml-cpu-zen4.so")
    assert not healthy.exists()
    with plugins.without(directory, {}) as healthy:
        assert healthy == directory


@pytest.mark.parametrize(
    ("library", "remedy"),
    [
        ("libcuda.so.1", " (not installed: NVIDIA's driver)"),
        ("libcudart.so.13", " (not installed: NVIDIA's CUDA runtime)"),
        ("libcublas.so.13", " (not installed: NVIDIA's CUDA runtime (cuBLAS))"),
        ("libvulkan.so.1", " (not installed: the Vulkan loader, package libvulkan1)"),
        ("libmusa.so.4", ""),
    ],
)
def test_a_missing_library_is_told_by_what_it_comes_with(directory: Path, library: str, remedy: str) -> None:
    said = f"load_backend: failed to load {directory}/libggml-any.so: {library}: {MISSING}"
    expected = f"failed to load libggml-any.so: {library}: {MISSING}{remedy}"
    assert plugins.reason(directory, said) == expected


def test_other_reasons_are_llama_cpps_own(directory: Path) -> None:
    said = f"load_backend: failed to load {directory}/libggml-cuda.so: invalid ELF header"
    assert plugins.reason(directory, said) == "failed to load libggml-cuda.so: invalid ELF header"
