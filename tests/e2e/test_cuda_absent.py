"""The CUDA plug-in where something that it needs is missing: ``doctor`` says what, and nothing else stops.

``make native PRESET=cuda`` builds the plug-in and leaves NVIDIA's runtime in ``build/inputs``.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kylin_gguf.records import Settings

from .conftest import with_plugin
from .test_broken_plugins import compile_library

_BUILD = Path(__file__).parents[2] / "build"
_PLUGIN = _BUILD / "native" / "cuda" / "libggml-cuda.so"
_RUNTIME = _BUILD / "inputs" / "cuda" / "nvidia" / "cu13" / "lib"
_CUDART, _CUBLAS = "libcudart.so.13", ("libcublas.so.13", "libcublasLt.so.13")
_DRIVER = "libcuda.so.1"
_CUDA_ERROR_NO_DEVICE = 100
pytestmark = [
    pytest.mark.native,
    pytest.mark.skipif(not _PLUGIN.is_file(), reason="make native PRESET=cuda has not been run"),
]


def refusing_driver(target: Path) -> None:
    """Make a driver that has the functions which the plug-in calls, and finds no device in each."""
    command = ["nm", "--dynamic", "--undefined-only", "--format=just-symbols", str(_PLUGIN)]
    wanted = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    functions = [name for name in wanted if name.startswith("cu") and name[2].isupper()]
    assert functions
    code = "".join(f"int {name}(void) {{ return {_CUDA_ERROR_NO_DEVICE}; }}\n" for name in functions)
    compile_library(target, code, f"-Wl,-soname,{_DRIVER}")


def is_installed(library: str) -> bool:
    """Whether the dynamic linker finds ``library`` on this machine."""
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    ("there", "said"),
    [
        ((), f"{_CUDART}: cannot open shared object file: .*not installed: NVIDIA's CUDA runtime\\)"),
        (
            (_CUDART,),
            f"{_CUBLAS[0]}: cannot open shared object file: .*not installed: NVIDIA's CUDA runtime .cuBLAS",
        ),
        ((_CUDART, *_CUBLAS), f"{_DRIVER}: cannot open shared object file: .*not installed: NVIDIA's driver"),
        ((_CUDART, *_CUBLAS, _DRIVER), "it loads, but finds no device"),
    ],
    ids=["nothing", "no cuBLAS", "no driver", "a driver that refuses"],
)
def test_doctor_names_what_is_missing(
    settings: Settings, tmp_path: Path, there: tuple[str, ...], said: str
) -> None:
    missing = [name for name in (_CUDART, _CUBLAS[0], _DRIVER) if name not in there]
    if missing and is_installed(missing[0]):
        pytest.skip(f"this machine has {missing[0]}")
    directory = with_plugin(settings, _PLUGIN, tmp_path / "native").native_dirs[0]
    installed = tmp_path / "installed"
    installed.mkdir()
    for name in there:
        if name == _DRIVER:
            refusing_driver(installed / name)
        else:
            (installed / name).symlink_to(_RUNTIME / name)
    environment = {
        **os.environ,
        "KYLIN_GGUF_NATIVE_DIRS": str(directory),
        "LD_LIBRARY_PATH": str(installed),
    }
    command = [sys.executable, "-m", "kylin_gguf", "doctor", "--json"]
    lines = subprocess.run(command, env=environment, capture_output=True, text=True, check=False).stdout
    findings = [json.loads(line) for line in lines.splitlines()]
    (finding,) = [found for found in findings if found["about"] == "back end"]
    assert finding["level"] == "note"
    assert finding["text"].startswith("cuda: ")
    assert re.search(said, finding["text"]), finding["text"]
