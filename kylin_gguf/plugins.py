"""llama.cpp's plug-ins as files: which lie beside its core, which of them crash, what a refused one lacks."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from kylin_gguf import plugin_trial

_PREFIX = "libggml-"
_NOT_PLUGINS = ("libggml-base.so",)
_LOADER = "libggml.so"
_COMES_WITH = {
    "libcuda.so": "NVIDIA's driver",
    "libcudart.so": "NVIDIA's CUDA runtime",
    "libcublas.so": "NVIDIA's CUDA runtime (cuBLAS)",
    "libvulkan.so": "the Vulkan loader, package libvulkan1",
}
"""What a user would install for a library that the dynamic linker misses; it only knows the file's name."""


def among(directory: Path) -> list[Path]:
    """Return the libraries in ``directory`` that are plug-ins."""
    found = directory.glob(f"{_PREFIX}*.so")
    return sorted(path for path in found if path.name not in _NOT_PLUGINS)


def accelerators(directory: Path) -> list[Path]:
    """Return the plug-ins that are not for processors: those that bring drivers with them."""
    return [path for path in among(directory) if name(path).partition("-")[0] != "cpu"]


def name(plugin: Path) -> str:
    """Return what llama.cpp calls a plug-in, such as ``vulkan`` or ``cpu-haswell``."""
    return plugin.stem.removeprefix(_PREFIX)


def crashing(suspects: Iterable[Path]) -> dict[str, str]:
    """Return the file names of those of ``suspects`` that crash whoever uses them, with how they do."""
    tried = ((path, plugin_trial.crash(path.with_name(_LOADER), path)) for path in suspects)
    return {path.name: reason for path, reason in tried if reason}


@contextmanager
def without(directory: Path, names: Collection[str]) -> Iterator[Path]:
    """Give a directory with the plug-ins of ``directory`` except ``names``."""
    if not names:
        yield directory
        return
    with tempfile.TemporaryDirectory(prefix="kylin-gguf-") as scratch:
        for path in among(directory):
            if path.name not in names:
                Path(scratch, path.name).symlink_to(path)
        yield Path(scratch)


def reason(directory: Path, said: str) -> str:
    """Return why a plug-in in ``directory`` is refused: what llama.cpp ``said``, and what is missing."""
    refused = said.removeprefix("load_backend: ").replace(f"{directory}/", "")
    lacks = [what for library, what in _COMES_WITH.items() if f" {library}." in refused]
    return f"{refused} (not installed: {lacks[0]})" if lacks else refused
