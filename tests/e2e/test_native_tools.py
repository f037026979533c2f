"""The libraries and tools that ``make native`` built, and how they are loaded.

Each case loads in a child process: dynamic libraries cannot be unloaded again.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kylin_gguf import config, native
from kylin_gguf.offload import machine

pytestmark = pytest.mark.native

_LOAD = """
import json, sys
from dataclasses import asdict
from kylin_gguf import config, native
loaded = native.load(config.load({"native_dirs": [sys.argv[1]]}))
import llama_cpp
llama_cpp.llama_backend_init()
print(json.dumps(asdict(loaded), default=str))
"""

# What llama_backend_init does when nothing is loaded yet.
_DEFAULT_SEARCH = """
import ctypes, sys
ctypes.CDLL(sys.argv[1] + "/libggml.so").ggml_backend_load_all()
"""

_OPEN = "import ctypes, sys; ctypes.CDLL(sys.argv[1])"

# Loading a library runs its constructors, so this tells whether it was opened at all.
_PLANT = """
#include <stdio.h>
__attribute__((constructor)) static void opened(void) { puts("PLANTED"); fflush(stdout); }
"""


@pytest.fixture(scope="module")
def libraries() -> native.NativeLibraries:
    return native.find(config.load())


def run_python(code: str, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command: list[str] = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


def plant(library: Path) -> None:
    """Compile a library that is no plug-in and says so when it is opened."""
    command = ["cc", "-shared", "-fPIC", "-x", "c", "-o", str(library), "-"]
    subprocess.run(command, input=_PLANT, text=True, check=True)


def load(directory: Path, cwd: Path) -> str:
    child = run_python(_LOAD, directory, cwd=cwd)
    assert child.returncode == 0, child.stderr
    return child.stdout


@pytest.fixture
def altered(libraries: native.NativeLibraries, tmp_path: Path) -> Path:
    """A copy of the libraries, to break."""
    return shutil.copytree(libraries.directory, tmp_path / "native", symlinks=True)


def test_the_processors_plugin_is_named(altered: Path, tmp_path: Path) -> None:
    chosen = json.loads(load(altered, tmp_path))["processor"]
    plugin = altered / f"libggml-{chosen}.so"
    plugin.unlink()
    second = json.loads(load(altered, tmp_path))["processor"]
    assert second != chosen and plugin.with_name(f"libggml-{second}.so").is_file()


@pytest.mark.parametrize("name", ["imatrix", "quantize", "perplexity", "bench", "server", "tokenize"])
def test_the_tools_start(libraries: native.NativeLibraries, name: str, tmp_path: Path) -> None:
    tool = libraries.tool(f"llama-{name}")
    child = subprocess.run([tool, "--help"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "error while loading shared libraries" not in child.stderr
    assert re.search(r"^\s*(-h\b|usage:)", child.stdout + child.stderr, re.M)


def test_loading_finds_the_processor(libraries: native.NativeLibraries, tmp_path: Path) -> None:
    said = load(libraries.directory, tmp_path)
    assert '"kind": "cpu"' in said
    assert '"failed": []' in said
    assert "0c1e57098" in said


def test_the_processor_s_features_are_of_this_processor() -> None:
    """Flags of /proc/cpuinfo as Linux spells them on x86; other processors' have other names."""
    settings = config.load()
    loaded = machine.libraries(settings)
    (processor,) = [device for device in loaded.devices if device.kind == "cpu"]
    assert processor.plugin == loaded.processor
    assert isinstance(processor.features, tuple) and "REPACK" in processor.features
    flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").upper().split()
    of_processors = {"AVX", "AVX2", "F16C", "FMA", "BMI2", "AVX512_VBMI", "AVX512_VNNI", "AVX512_BF16"}
    known = {"AVX512_VBMI": "AVX512VBMI"}
    stated = of_processors.intersection(processor.features)
    assert {known.get(feature, feature) for feature in stated} <= set(flags)
    if processor.plugin == "cpu-haswell":
        assert {"AVX2", "F16C", "FMA", "BMI2"} <= stated and "AVX512_VNNI" not in stated
    if processor.plugin == "cpu-zen4":
        assert stated == of_processors


@pytest.fixture
def trapped(tmp_path: Path) -> Path:
    """A directory with libraries named as plug-ins are."""
    for name in ("cpu", "cpu-haswell", "cpu-evil", "vulkan", "blas-evil", "evil"):
        plant(tmp_path / f"libggml-{name}.so")
    assert "PLANTED" in run_python(_OPEN, tmp_path / "libggml-evil.so", cwd=tmp_path).stdout
    return tmp_path


def test_a_library_planted_in_the_current_directory_is_not_opened(
    libraries: native.NativeLibraries, trapped: Path
) -> None:
    assert "PLANTED" not in load(libraries.directory, trapped)
    searched = run_python(_DEFAULT_SEARCH, libraries.directory, cwd=trapped)
    assert (searched.returncode, searched.stdout) == (0, "")


@pytest.mark.parametrize("tool", ["llama-bench", "llama-quantize", "llama-server"])
def test_tools_open_no_library_of_the_current_directory(
    libraries: native.NativeLibraries, trapped: Path, tool: str
) -> None:
    model = trapped / "bad.gguf"
    model.write_bytes(b"GGUF" + bytes(64))
    arguments = [str(model), "out.gguf", "Q8_0"] if tool == "llama-quantize" else ["-m", str(model)]
    child = subprocess.run(
        [libraries.tool(tool), *arguments], cwd=trapped, capture_output=True, text=True, check=False
    )
    assert child.returncode != 0
    assert "bad.gguf" in child.stdout + child.stderr
    assert "PLANTED" not in child.stdout


def test_a_broken_plugin_is_reported_and_stops_nothing(altered: Path, tmp_path: Path) -> None:
    (altered / "libggml-vulkan.so").write_bytes(b"not a library")
    said = load(altered, tmp_path)
    assert '"name": "vulkan"' in said
    assert "file too short" in said
    assert '"kind": "cpu"' in said


def test_a_library_that_is_no_plugin_is_reported(altered: Path, tmp_path: Path) -> None:
    plant(altered / "libggml-cuda.so")
    said = load(altered, tmp_path)
    assert '"name": "cuda"' in said
    assert "ggml_backend_init" in said


def test_without_a_cpu_plugin_loading_fails_with_the_reason(altered: Path, tmp_path: Path) -> None:
    for plugin in altered.glob("libggml-cpu*.so"):
        plugin.unlink()
    (altered / "libggml-cpu-x64.so").write_bytes(b"not a library")
    child = run_python(_LOAD, altered, cwd=tmp_path)
    assert "LibraryLoadFailed" in child.stderr
    assert "cpu-x64: failed to load libggml-cpu-x64.so" in child.stderr


def test_bindings_that_were_imported_with_other_libraries_are_refused(
    libraries: native.NativeLibraries, altered: Path, tmp_path: Path
) -> None:
    early = f"import os; os.environ['LLAMA_CPP_LIB_PATH'] = {str(libraries.directory)!r}; import llama_cpp\n"
    child = run_python(early + _LOAD, altered, cwd=tmp_path)
    assert "imported before" in child.stderr
    assert run_python(early + _LOAD, libraries.directory, cwd=tmp_path).returncode == 0


def test_the_log_goes_to_whoever_asked(libraries: native.NativeLibraries, tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"GGUF" + bytes(64))
    ask = """
heard = []
native.capture_log(lambda level, line: heard.append((level, line)))
model = llama_cpp.llama_model_load_from_file(b"bad.gguf", llama_cpp.llama_model_default_params())
assert model is None
assert any(level == 4 and "bad.gguf" in line for level, line in heard), heard
assert not any(line.endswith(chr(10)) for _, line in heard)
"""
    child = run_python(_LOAD + ask, libraries.directory, cwd=tmp_path)
    assert child.returncode == 0, child.stderr
    assert "bad.gguf" not in child.stderr


def test_nothing_installed_looks_for_libraries_outside_its_directory(
    libraries: native.NativeLibraries,
) -> None:
    for path in libraries.directory.iterdir():
        if path.is_symlink() or not os.access(path, os.X_OK):
            continue
        dynamic = subprocess.run(["readelf", "-d", path], capture_output=True, text=True, check=True).stdout
        paths = [
            line.split("[")[1].rstrip("]")
            for line in dynamic.splitlines()
            if "R*PATH" in line or "PATH)" in line
        ]
        assert paths in ([], ["$ORIGIN"]), path.name
