"""Plug-ins that cannot be used, as real files: each is named with its reason; the engine answers anyway."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from kylin_gguf import catalogue, native
from kylin_gguf.pool import EnginePool
from kylin_gguf.records import InstalledModel, Settings
from kylin_gguf.service import Service
from kylin_gguf.sessions import Session
from kylin_gguf.store import Store

from .conftest import read_frames

pytestmark = pytest.mark.native

# ggml_backend_reg begins with the version of the interface that the plug-in was compiled against.
_OTHER_ABI = """
static struct { int api_version; void *rest[16]; } old = {1};
void *ggml_backend_init(void) { return &old; }
"""
_ABSENT_SYMBOL = (
    "int ggml_of_another_release(void); int ggml_backend_init(void) { return ggml_of_another_release(); }"
)
# struct ggml_backend_reg of the interface's second version: version, get_name, get_device_count, get_device,
# get_proc_address, context.
_NO_DEVICE = """
static const char *name(void *reg) { return "Vulkan"; }
static unsigned long count(void *reg) { return 0; }
static void *nothing(void *reg) { return 0; }
static struct { int version; void *interface[4], *context; } reg = {2, {name, count, nothing, nothing}, 0};
void *ggml_backend_init(void) { return &reg; }
"""
# struct ggml_backend_device: get_name, get_description, get_memory, get_type, and more functions.
_FULL_DEVICE = """
#include <stdlib.h>
static const char *name(void *reg) { return "Vulkan"; }
static void memory(void *device, unsigned long *free, unsigned long *total) { abort(); }
static int type(void *device) { return 1; }
static struct { void *interface[32]; } device = {{name, name, memory, type}};
static unsigned long count(void *reg) { return 1; }
static void *get(void *reg, unsigned long index) { return &device; }
static void *nothing(void *reg, const char *name) { return 0; }
static struct { int version; void *interface[4], *context; } reg = {2, {name, count, get, nothing}, 0};
void *ggml_backend_init(void) { return &reg; }
"""
_CRASHING_DRIVER = "#include <stdlib.h>\n__attribute__((constructor)) static void start(void) { abort(); }"


def compile_library(target: Path, code: str, *options: str) -> None:
    command = ["cc", "-shared", "-fPIC", "-x", "c", "-o", str(target), "-", "-x", "none", *options]
    subprocess.run(command, input=code, text=True, check=True)


def lacking_a_library(plugin: Path) -> None:
    driver = plugin.with_name("libabsent-driver.so")
    compile_library(driver, "int driver(void) { return 0; }", "-Wl,-soname,libabsent-driver.so.1")
    compile_library(plugin, "int driver(void); int ggml_backend_init(void) { return driver(); }", str(driver))
    driver.unlink()


def cut_short(plugin: Path) -> None:
    whole = next(plugin.parent.glob("libggml-cpu-*.so")).read_bytes()
    plugin.write_bytes(whole[: len(whole) // 2])


def overwritten(plugin: Path) -> None:
    plugin.write_bytes(b"\x00" * 100_000)


def of_another_interface(plugin: Path) -> None:
    compile_library(plugin, _OTHER_ABI)


def of_another_release(plugin: Path) -> None:
    compile_library(plugin, _ABSENT_SYMBOL)


def without_a_device(plugin: Path) -> None:
    compile_library(plugin, _NO_DEVICE)


def with_a_full_device(plugin: Path) -> None:
    compile_library(plugin, _FULL_DEVICE)


def with_a_crashing_driver(plugin: Path) -> None:
    compile_library(plugin, _CRASHING_DRIVER)


CASES = [
    (lacking_a_library, "libabsent-driver.so.1: cannot open shared object file"),
    (cut_short, "loading it crashes (SIGBUS)"),
    (overwritten, "invalid ELF header"),
    (of_another_interface, "incompatible API version (backend: 1, current: "),
    (of_another_release, "undefined symbol: ggml_of_another_release"),
    (without_a_device, "it loads, but finds no device"),
    (with_a_full_device, "its device does not wake (SIGABRT): its memory is full, or its driver broken"),
    (with_a_crashing_driver, "loading it crashes (SIGABRT)"),
]


@pytest.fixture(params=CASES, ids=lambda case: case[0].__name__)
def broken(request: pytest.FixtureRequest, settings: Settings, tmp_path: Path) -> tuple[Settings, str]:
    """Settings whose libraries have a Vulkan plug-in that cannot be used, and what is wrong with it."""
    spoil: Callable[[Path], None]
    spoil, reason = request.param
    directory = shutil.copytree(native.find(settings).directory, tmp_path / "native", symlinks=True)
    spoil(directory / "libggml-vulkan.so")
    return replace(settings, native_dirs=(directory,)), reason


async def test_doctor_and_devices_name_it_and_the_engine_answers(
    broken: tuple[Settings, str], model: InstalledModel
) -> None:
    settings, reason = broken
    environment = {**os.environ, "KYLIN_GGUF_NATIVE_DIRS": str(settings.native_dirs[0])}
    command = [sys.executable, "-m", "kylin_gguf", "doctor", "--json"]
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=False).stdout
    findings = [json.loads(line) for line in said.splitlines()]
    (finding,) = [found for found in findings if found["about"] == "back end"]
    assert finding["level"] == "note"
    assert finding["text"].startswith("vulkan: ")
    assert reason in finding["text"]

    service = Service(settings, Store(settings, catalogue.load(settings.catalogue)))
    processor, plugin = await service.devices()
    assert processor["kind"] == "cpu"
    assert (plugin["kind"], plugin["name"], plugin["memory_total"]) == ("failed", "vulkan", 0)
    assert reason in plugin["description"]

    pool = EnginePool(settings)
    try:
        frames = await read_frames(
            await Session(model, pool.acquire).generate({"prompt": "Say hello.", "max_tokens": 4})
        )
    finally:
        await pool.close()
    assert any(frame["type"] == "text" for frame in frames)
    assert frames[-1]["type"] == "end"


async def test_a_worker_without_layers_on_a_device_loads_no_driver(
    settings: Settings, model: InstalledModel, tmp_path: Path
) -> None:
    directory = shutil.copytree(native.find(settings).directory, tmp_path / "native", symlinks=True)
    without_a_device(directory / "libggml-vulkan.so")
    pool = EnginePool(replace(settings, native_dirs=(directory,)))
    try:
        await read_frames(await Session(model, pool.acquire).generate({"prompt": "Hello.", "max_tokens": 1}))
        (loaded,) = pool.loaded()
        mapped = Path(f"/proc/{loaded.pid}/maps").read_text(encoding="utf-8")
    finally:
        await pool.close()
    assert str(directory / "libllama.so") in mapped
    assert "libggml-vulkan" not in mapped
